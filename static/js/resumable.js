// One file, sent in pieces the server keeps (tus 1.0): pause, resume, try again after a broken connection, go on after a reload.
// window.slipwayResumable.begin(file, {url, purpose, token, tell}) -> {done: Promise<address>, pause(), resume(), cancel()}.
// ``tell`` hears {state: "sending" | "paused" | "waiting", sent, waitS, why}. Where an upload lies is remembered in localStorage under
// the file's name, size and date, so that choosing the same file again goes on where it was.
(() => {
  "use strict";
  const PIECE = 16 << 20; // what a proxy that holds bodies back may cost at most
  const TRIES = 12; // about six minutes; a byte that arrives starts the count again
  const LONGEST_S = 60;
  const PREFIX = "slipway-upload ";
  const VERSION = "1.0.0";

  const keyOf = (url, purpose, file) => `${PREFIX}${url} ${purpose} ${file.size} ${file.lastModified} ${file.name}`;
  const store = {
    get: (key) => {
      try {
        return JSON.parse(localStorage.getItem(key));
      } catch {
        return null; // storage is blocked, or somebody else's value
      }
    },
    set: (key, value) => {
      try {
        localStorage.setItem(key, JSON.stringify(value));
      } catch {
        // full or blocked: it works without, only not after a reload
      }
    },
    drop: (key) => {
      try {
        localStorage.removeItem(key);
      } catch {
        // blocked
      }
    },
    all: (url) => {
      try {
        return Object.keys(localStorage).filter((key) => key.startsWith(`${PREFIX}${url} `));
      } catch {
        return [];
      }
    },
  };

  const encoded = (text) => btoa(String.fromCharCode(...new TextEncoder().encode(text)));

  // One request. Resolves with the xhr when the server answered in the protocol; else rejects with {again, gone, paused, problem, waitS}.
  const ask = (method, address, { token, headers = {}, body = null, onProgress, hold }) =>
    new Promise((done, fail) => {
      const xhr = new XMLHttpRequest();
      xhr.open(method, address);
      for (const [name, value] of Object.entries({ "Tus-Resumable": VERSION, Accept: "application/json", "X-CSRFToken": token, ...headers })) xhr.setRequestHeader(name, value);
      if (onProgress) xhr.upload.addEventListener("progress", (event) => onProgress(event.loaded));
      xhr.addEventListener("error", () => fail({ again: true, why: "The connection broke." }));
      xhr.addEventListener("abort", () => fail({ paused: true }));
      xhr.addEventListener("load", () => {
        const spoken = xhr.getResponseHeader("Tus-Resumable") === VERSION;
        if (spoken && xhr.status < 300) return done(xhr);
        if (spoken && (xhr.status === 404 || xhr.status === 410)) return fail({ gone: true });
        const waitS = Number(xhr.getResponseHeader("Retry-After")) || 0;
        if (xhr.status >= 500 || xhr.status === 409 || xhr.status === 423 || xhr.status === 429 || xhr.status === 460) return fail({ again: true, waitS, why: "The server was busy." });
        if (!spoken && xhr.status < 400) return fail({ problem: { message: "You are signed out.", hint: "Sign in again in another tab, then press the button once more: what arrived is kept." } });
        return fail({ problem: window.slipwayProblem(xhr) });
      });
      hold?.(xhr);
      xhr.send(body);
    });

  // While the server waits for the bytes of a call that was given up, it lets nobody else near an upload. What is not gone when the page
  // closes goes with the next visit.
  const remove = async (key, { address, name, size }, token) => {
    store.set(key, { address, name, size, dropped: true });
    for (let tries = 0; tries < TRIES; tries += 1) {
      try {
        await ask("DELETE", address, { token });
        break;
      } catch (trouble) {
        if (trouble.gone) break;
        if (!trouble.again || tries === TRIES - 1) return;
        await new Promise((done) => setTimeout(done, 1000 * Math.max(trouble.waitS || 0, 1)));
      }
    }
    if (store.get(key)?.address === address) store.drop(key);
  };

  const begin = (file, { url, purpose, token, tell }) => {
    const key = keyOf(url, purpose, file);
    const known = store.get(key);
    let address = (!known?.dropped && known?.address) || "";
    let offset = null; // null: the server has to be asked
    let safe = 0; // what it told last
    let paused = false;
    let cancelled = false;
    let request = null;
    let wake = () => {};
    const say = (state, more = {}) => tell({ state, sent: safe, ...more });
    const heard = (xhr) => {
      offset = safe = Number(xhr.getResponseHeader("Upload-Offset"));
    };
    const rest = (ms) => new Promise((done) => {
      const timer = ms === null ? 0 : setTimeout(done, ms);
      wake = () => {
        clearTimeout(timer);
        done();
      };
    });

    const create = async () => {
      const metadata = `filename ${encoded(file.name)},purpose ${encoded(purpose)}`;
      const xhr = await ask("POST", url, { token, headers: { "Upload-Length": String(file.size), "Upload-Metadata": metadata } });
      address = xhr.getResponseHeader("Location");
      offset = safe = 0;
      store.set(key, { address, name: file.name, size: file.size });
    };
    const look = async () => {
      const xhr = await ask("HEAD", address, { token });
      heard(xhr);
    };
    const send = async () => {
      const from = offset;
      const xhr = await ask("PATCH", address, {
        token,
        headers: { "Upload-Offset": String(from), "Content-Type": "application/offset+octet-stream" },
        body: file.slice(from, from + PIECE),
        onProgress: (loaded) => tell({ state: "sending", sent: Math.min(from + loaded, file.size) }),
        hold: (each) => (request = each),
      });
      heard(xhr);
    };

    const work = async () => {
      let tries = 0;
      for (;;) {
        if (cancelled) throw { cancelled: true };
        if (paused) {
          say("paused");
          await rest(null);
          continue;
        }
        try {
          if (!address) await create();
          else if (offset === null) await look();
          if (offset === file.size) return address;
          say("sending");
          const before = offset;
          await send();
          if (offset > before) tries = 0;
        } catch (trouble) {
          if (!trouble || typeof trouble !== "object" || trouble instanceof Error) throw trouble;
          offset = null; // what arrived of this piece only the server knows
          if (trouble.paused) continue;
          if (trouble.gone && tries < TRIES) {
            store.drop(key);
            address = "";
          } else if (!trouble.again || tries >= TRIES) {
            throw trouble.problem ? trouble : { problem: { message: trouble.why || "The upload did not work.", hint: "What arrived is kept. Press the button again to go on." } };
          }
          tries += 1;
          const waitS = Math.max(trouble.waitS || 0, Math.min(LONGEST_S, 2 ** (tries - 1) * (0.5 + Math.random() / 2)));
          say("waiting", { waitS, why: trouble.gone ? "The server has it no more." : trouble.why });
          await rest(waitS * 1000);
        } finally {
          request = null;
        }
      }
    };
    const online = () => wake();
    window.addEventListener("online", online);
    const done = work().finally(() => window.removeEventListener("online", online));

    return {
      done,
      pause: () => {
        paused = true;
        request?.abort();
        wake();
      },
      resume: () => {
        paused = false;
        wake();
      },
      cancel: async () => {
        cancelled = true;
        request?.abort();
        wake();
        if (address) await remove(key, { address, name: file.name, size: file.size }, token);
      },
    };
  };

  // What was begun here and not finished or used: [{key, address, name, size, sent}]. What the server has no more is forgotten.
  const waiting = async (url, token) => {
    const found = [];
    for (const key of store.all(url)) {
      const known = store.get(key);
      if (!known?.address) continue;
      if (known.dropped) {
        remove(key, known, token);
        continue;
      }
      try {
        const xhr = await ask("HEAD", known.address, { token });
        found.push({ key, ...known, sent: Number(xhr.getResponseHeader("Upload-Offset")) });
      } catch (trouble) {
        if (trouble.gone) store.drop(key);
      }
    }
    return found;
  };
  const discard = (each, token) => remove(each.key, each, token);
  const forget = (url, address) => {
    for (const key of store.all(url)) if (store.get(key)?.address === address) store.drop(key);
  };

  window.slipwayResumable = { begin, waiting, discard, forget };
})();
