// Try it with a picture: in [data-tryit-picture] the chosen file is shown, and becomes the body of the request as a data: URL in the
// hidden [data-tryit-json] that tryit.js sends. Nothing leaves the page before "Predict". Docs: docs/inputs.md.
(() => {
  "use strict";

  const LARGEST = 3.5e6; // bytes: base64 makes a third more of it, and a request may have 5 MB
  const KINDS = ["image/png", "image/jpeg"];

  const refusal = (file) => {
    if (!KINDS.includes(file.type)) return `${file.name} is no PNG or JPEG.`;
    if (file.size > LARGEST) return `${file.name} has ${(file.size / 1e6).toFixed(1)} MB; a request may have 3.5 MB of picture.`;
    return "";
  };

  const read = (file) =>
    new Promise((resolve, reject) => {
      const reader = new FileReader();
      reader.addEventListener("load", () => resolve(reader.result));
      reader.addEventListener("error", () => reject(reader.error));
      reader.readAsDataURL(file);
    });

  for (const field of document.querySelectorAll("[data-tryit-picture]")) {
    const input = field.querySelector('input[type="file"]');
    const note = field.querySelector(".form-hint");
    const told = note.textContent;
    input.addEventListener("change", async () => {
      const file = input.files[0];
      if (!file) return;
      let why = refusal(file);
      if (!why) {
        try {
          const url = await read(file);
          field.querySelector("img").src = url;
          field.querySelector("[data-tryit-json]").value = JSON.stringify({ inputs: [url] });
        } catch {
          why = `${file.name} could not be read.`;
        }
      }
      input.classList.toggle("is-invalid", Boolean(why));
      input.toggleAttribute("aria-invalid", Boolean(why));
      note.textContent = why || told;
    });
  }
})();
