// Talking to the car. One question at a time, each with a time limit: a slow network makes the page slower, never late.

const TOKEN = "sepilot-token";
const ANSWER_MS = 1400, PICTURE_MS = 3000, STOP_MS = 900, CONTROL_MS = 3000;
const LIVE_EVERY_MS = 100, PICTURE_EVERY_MS = 70, RETRY_MS = 250, RESTART_MS = 1500;

export const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

export class Refused extends Error {
  constructor(status, words) { super(words); this.status = status; }
}

/** The token lives as long as the tab, and travels in a header alone. */
export const token = {
  get: () => sessionStorage.getItem(TOKEN) || "",
  set: (text) => (text ? sessionStorage.setItem(TOKEN, text) : sessionStorage.removeItem(TOKEN)),
};

async function ask(path, { method = "GET", limitMs = ANSWER_MS, read = (answer) => answer.json() } = {}) {
  const abort = new AbortController();
  const timer = setTimeout(() => abort.abort(), limitMs);
  try {
    const headers = token.get() ? { Authorization: `Bearer ${token.get()}` } : {};
    const answer = await fetch(path, { method, headers, signal: abort.signal, cache: "no-store" });
    if (!answer.ok) throw new Refused(answer.status, await answer.text());
    return await read(answer);
  } finally {
    clearTimeout(timer);
  }
}

export const about = () => ask("about", { limitMs: 3000 });
export const control = (action) => ask(`control/${action}`, { method: "POST", limitMs: action === "stop" ? STOP_MS : CONTROL_MS });

/**
 * Ask for the drive as it is, for ever.
 * @param place {count, bucket}: what is known already.
 * @param heard called with an answer and the moment (performance.now) before which it cannot have been made.
 * @param refused called with a Refused; the next question waits for the promise that it gives.
 */
export async function follow(place, heard, refused) {
  for (;;) {
    const sent = performance.now();
    try {
      const { count, bucket } = place();
      const now = await ask(`live?count=${count}&bucket=${bucket}`);
      await heard(now, sent + now.waited_ms);
      await sleep(now.ended ? RESTART_MS : Math.max(10, LIVE_EVERY_MS - (performance.now() - sent)));
    } catch (error) {
      if (error instanceof Refused) await refused(error);
      await sleep(RETRY_MS);
    }
  }
}

/**
 * Ask for the newest picture, for ever, while the page is looked at.
 * @param show called with a bitmap and what the server says about it.
 */
export async function watch(ready, show) {
  let after = 0;
  for (;;) {
    const sent = performance.now();
    if (document.hidden || !ready()) { await sleep(200); continue; }
    try {
      const shot = await ask(`picture?after=${after}`, {
        limitMs: PICTURE_MS,
        read: async (answer) => (answer.status === 204 ? null : {
          ...JSON.parse(answer.headers.get("X-Shot")), bitmap: await createImageBitmap(await answer.blob()),
        }),
      });
      if (shot) {
        after = shot.number;
        show(shot, sent);
        shot.bitmap.close();
      }
      await sleep(Math.max(5, PICTURE_EVERY_MS - (performance.now() - sent)));
    } catch {
      after = 0;
      await sleep(2 * RETRY_MS);
    }
  }
}
