// What every page has: parts that are kept up to date, buttons that change something, times that pass.
//
// A part is an element with an id, `data-live="ADDRESS"` (what gives its inner markup) and `data-on="EVENTS"` (`jobs`,
// `tick`; both where nothing is named). Children with an id or `data-key` stay as they are while their markup is the
// same, so that focus, selection, open details and pictures stay.

const csrf = () => document.body.dataset.csrf ?? "";

/** Sends a change; gives the answer's JSON, or throws an Error that says why not. */
export async function post(address, body, method = "POST") {
    const form = body instanceof FormData || body instanceof URLSearchParams;
    const answer = await fetch(address, {
        method,
        headers: { "x-csrf-token": csrf(), ...(form || body === undefined ? {} : { "content-type": "application/json" }) },
        body: form || body === undefined ? body : JSON.stringify(body),
    });
    const text = await answer.text();
    let content = {};
    try { content = text ? JSON.parse(text) : {}; } catch { /* a page, or nothing */ }
    if (!answer.ok) throw new Error(content.error ?? `the server answered ${answer.status}`);
    return content;
}

/** Gives JSON, or throws an Error that says why not. */
export async function get(address, options = {}) {
    const answer = await fetch(address, options);
    const content = await answer.json().catch(() => ({}));
    if (!answer.ok) throw new Error(content.error ?? `the server answered ${answer.status}`);
    return content;
}

const listeners = new Map();
/** Calls back at each of the server's events of this name. */
export function on(name, listener) {
    if (!listeners.has(name)) listeners.set(name, new Set());
    listeners.get(name).add(listener);
}
const tell = (name) => listeners.get(name)?.forEach((listener) => listener());

/** Brings an element's children to this markup; what is the same stays. */
export function morph(element, markup) {
    const template = document.createElement("template");
    template.innerHTML = markup;
    morphChildren(element, template.content);
}
const key = (node) => (node.nodeType === 1 ? node.id || node.dataset.key || null : null);
function morphChildren(old, fresh) {
    const keyed = new Map([...old.children].filter(key).map((child) => [key(child), child]));
    let at = old.firstChild;
    for (const node of [...fresh.childNodes]) {
        const known = key(node) && keyed.get(key(node));
        if (known) {
            keyed.delete(key(node));
            if (known !== at) old.insertBefore(known, at); else at = at.nextSibling;
            morphNode(known, node);
        } else if (at && !key(at) && at.nodeType === node.nodeType && at.nodeName === node.nodeName && !key(node)) {
            const next = at.nextSibling;
            morphNode(at, node);
            at = next;
        } else {
            old.insertBefore(node, at);
        }
    }
    while (at) { const next = at.nextSibling; at.remove(); at = next; }
}
function morphNode(old, fresh) {
    if (old.nodeType !== 1) { if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue; return; }
    if (old.nodeName !== fresh.nodeName) { old.replaceWith(fresh); return; }
    if (old.hasAttribute("data-keep") || old.isEqualNode(fresh)) return;
    for (const { name, value } of [...fresh.attributes]) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    for (const { name } of [...old.attributes]) {
        if (!fresh.hasAttribute(name) && !(old.nodeName === "DETAILS" && name === "open")) old.removeAttribute(name);
    }
    // What somebody is typing is theirs.
    if (["INPUT", "TEXTAREA", "SELECT"].includes(old.nodeName) && old === document.activeElement) return;
    morphChildren(old, fresh);
}

/** Asks for a part anew. */
export async function refresh(part) {
    if (part.dataset.asking) { part.dataset.again = "1"; return; }
    part.dataset.asking = "1";
    try {
        const answer = await fetch(part.dataset.live, { headers: { "x-part": "1" } });
        if (answer.ok) { morph(part, await answer.text()); part.dispatchEvent(new CustomEvent("refreshed", { bubbles: true })); }
    } catch { /* the stream says that the server is gone */ }
    delete part.dataset.asking;
    if (part.dataset.again) { delete part.dataset.again; refresh(part); }
}
function refreshAll(event) {
    if (document.hidden) { stale = true; return; }
    for (const part of document.querySelectorAll("[data-live]")) {
        const wanted = part.dataset.on ?? "jobs tick";
        if (event === undefined || wanted.split(" ").includes(event)) refresh(part);
    }
}
let stale = false;
document.addEventListener("visibilitychange", () => { if (!document.hidden && stale) { stale = false; refreshAll(); } });

function say(text) {
    const line = document.getElementById("lost");
    if (!line) return;
    line.hidden = !text;
    line.textContent = text ?? "";
}
let source;
let cut = false;
function follow() {
    source = new EventSource("/api/v1/events");
    source.onopen = () => { if (cut) { cut = false; say(null); refreshAll(); tell("jobs"); } };
    source.onerror = () => {
        // A stream ends every few minutes and begins again; only what stays away is worth a word.
        const gone = source;
        setTimeout(() => {
            if (gone.readyState === EventSource.OPEN) return;
            cut = true;
            say("The server does not answer. This page shows what was last known, and goes on by itself.");
            if (gone.readyState === EventSource.CLOSED && gone === source) follow();
        }, 3000);
    };
    source.addEventListener("lost", () => say("The database does not answer. This page shows what was last known."));
    source.addEventListener("back", () => { say(null); refreshAll(); tell("jobs"); });
    for (const name of ["jobs", "tick", "pictures", "tries", "alerts"]) {
        source.addEventListener(name, () => { refreshAll(name); tell(name); });
    }
}
if (document.body.dataset.csrf !== undefined) follow();
addEventListener("pagehide", () => source?.close());
addEventListener("pageshow", (event) => { if (event.persisted) { follow(); refreshAll(); } });

// `data-confirm` on a button or a form asks first.
document.addEventListener("submit", (event) => {
    const question = event.submitter?.dataset.confirm ?? event.target.dataset.confirm;
    if (question && !confirm(question)) event.preventDefault();
});
// `data-copy="SELECTOR"` copies the text of an element.
document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    await navigator.clipboard?.writeText(document.querySelector(button.dataset.copy)?.textContent ?? "");
    const before = button.textContent;
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = before; }, 1200);
});
// A select or checkbox within `form[data-submit]` sends it by itself.
document.addEventListener("change", (event) => {
    if (event.target.matches("select, input[type=checkbox], input[type=radio]")) event.target.form?.matches("[data-submit]") && event.target.form.requestSubmit();
});
