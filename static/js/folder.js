// A folder in an upload form: [data-folder] holds a file input with webkitdirectory; a folder that is dropped on the form's first
// drop zone counts as chosen. The files go with the form under the input's name, each with its path in the folder as its filename.
// What no model needs (.git, caches) stays here.
(() => {
  "use strict";
  const LEFT_OUT = /(^|\/)(\.git|__pycache__|__MACOSX|\.ipynb_checkpoints)\/|(^|\/)(\.DS_Store|Thumbs\.db|desktop\.ini|\._[^/]*)$|\.py[co]$/;
  const MOST = 2000;
  const chosen = new WeakMap(); // form -> [{ path, file }]

  const size = (bytes) => {
    const units = ["B", "kB", "MB", "GB"];
    let unit = 0;
    for (; bytes >= 1000 && unit < units.length - 1; unit += 1) bytes /= 1000;
    return `${unit && bytes < 100 ? bytes.toFixed(1) : Math.round(bytes)} ${units[unit]}`;
  };

  const show = (form, name) => {
    const files = chosen.get(form) || [];
    const block = form.querySelector("[data-folder]");
    const said = block.querySelector("[data-folder-said]");
    said.dataset.empty ??= said.textContent;
    const total = files.reduce((sum, each) => sum + each.file.size, 0);
    if (!files.length) said.textContent = said.dataset.empty;
    else if (files.length > MOST) said.textContent = `${name}: ${files.length} files are more than ${MOST}. Leave out what the model does not need.`;
    else said.textContent = `${name}: ${files.length} file${files.length === 1 ? "" : "s"}, ${size(total)}`;
    block.classList.toggle("has-file", files.length > 0);
    block.querySelector("[data-folder-clear]").hidden = files.length === 0;
    const field = form.querySelector('[data-name-from="file"]');
    if (field && files.length && (!field.value || field.value === field.dataset.suggested)) {
      field.value = field.dataset.suggested = name.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-+|-+$/g, "").slice(0, 60);
    }
  };

  const choose = (form, files) => {
    const kept = files.filter((each) => !LEFT_OUT.test(each.path));
    chosen.set(form, kept);
    const single = form.querySelector('input[type="file"][name="file"]');
    if (kept.length && single?.files.length) {
      single.value = "";
      single.dispatchEvent(new Event("change", { bubbles: true }));
    }
    show(form, (files[0]?.path || "").split("/")[0]);
  };

  document.addEventListener("change", (event) => {
    const input = event.target;
    if (input.matches("[data-folder] input[type=file]")) {
      choose(input.form, [...input.files].map((file) => ({ path: file.webkitRelativePath || file.name, file })));
    } else if (input.matches('input[type="file"][name="file"]') && input.files.length && chosen.get(input.form)?.length) {
      clear(input.form);
    }
  });

  const clear = (form) => {
    form.querySelector("[data-folder] input[type=file]").value = "";
    choose(form, []);
  };
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-folder-clear]");
    if (button) clear(button.form);
  });

  // A dropped folder is walked through; readEntries gives a part at a time.
  const walk = async (entry, files) => {
    if (files.length > MOST || LEFT_OUT.test(entry.fullPath.slice(1) + (entry.isDirectory ? "/" : ""))) return;
    if (entry.isFile) {
      const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
      files.push({ path: entry.fullPath.slice(1), file });
      return;
    }
    const reader = entry.createReader();
    for (;;) {
      const part = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
      if (!part.length) return;
      for (const each of part) await walk(each, files);
    }
  };

  document.addEventListener(
    "drop",
    async (event) => {
      const form = event.target.closest?.("[data-drop]")?.closest("form");
      if (!form?.querySelector("[data-folder]")) return;
      const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
      if (!entries.some((entry) => entry.isDirectory)) return;
      event.preventDefault();
      event.stopPropagation(); // not a file for the zone
      event.target.closest("[data-drop]").classList.remove("is-over");
      const files = [];
      for (const entry of entries) await walk(entry, files);
      choose(form, files);
    },
    true,
  );

  document.addEventListener("formdata", (event) => {
    const input = event.target.querySelector("[data-folder] input[type=file]");
    if (!input) return;
    event.formData.delete(input.name);
    for (const { path, file } of chosen.get(event.target) || []) event.formData.append(input.name, file, path);
  });
})();
