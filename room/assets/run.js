// The log of a job, followed: pieces are asked for while it grows, and each byte comes once. What is kept in the page is
// bounded; whoever scrolls up reads on undisturbed.
import { get, on } from "/assets/room.js";

const MOST = 1_500_000;
const EVERY = 1000;

for (const one of document.querySelectorAll(".scripted")) one.hidden = false;

const config = document.querySelector("pre.config");
document.getElementById("config-short")?.addEventListener("change", (event) => config?.classList.toggle("short", event.target.checked));

const log = document.getElementById("log");
if (log) {
    const where = document.getElementById("log-where");
    const none = document.getElementById("log-none");
    const follow = document.getElementById("log-follow");
    const choice = document.getElementById("log-choice");
    const size = (bytes) => bytes < 10_240 ? `${bytes} B` : bytes < 10_485_760 ? `${Math.round(bytes / 1024)} KiB` : `${Math.round(bytes / 1_048_576)} MiB`;
    let attempt = log.dataset.attempt ?? null;
    let seat = null;
    let next = attempt === null ? null : Number(log.dataset.next);
    let chosen = false;
    let asking = false;
    let again = null;
    let ended = false;

    const atEnd = () => log.scrollHeight - log.scrollTop - log.clientHeight < 40;
    const toEnd = () => { log.scrollTop = log.scrollHeight; };
    function write(text) {
        if (!text) return;
        const end = follow ? follow.checked && atEnd() : atEnd();
        log.append(text);
        let length = log.textContent.length;
        while (length > MOST && log.firstChild) {
            const first = log.firstChild;
            if (first.length > length - MOST && log.childNodes.length === 1) first.deleteData(0, length - MOST);
            else first.remove();
            length = log.textContent.length;
        }
        if (end) toEnd();
    }
    function begin(number, host, place) {
        attempt = number;
        seat = host;
        next = place;
        ended = false;
        log.textContent = "";
    }
    async function ask() {
        if (asking || document.hidden) return;
        asking = true;
        clearTimeout(again);
        let soon = false;
        try {
            const query = new URLSearchParams();
            if (attempt !== null) query.set("attempt", attempt);
            if (seat !== null) query.set("seat", seat);
            if (next !== null) query.set("from", next);
            const piece = await get(`${log.dataset.log}?${query}`);
            if (piece.attempt !== null) {
                if (none) none.hidden = true;
                if (where) where.hidden = false;
                if (attempt === null || next === null) place(piece);
                attempt = String(piece.attempt);
                if (piece.missing > 0) write(`[… ${size(piece.missing)} are only on host ${piece.host}, in ${piece.path}]\n`);
                write(piece.text);
                next = piece.next;
                ended = piece.ended;
                soon = piece.more;
                // The next attempt follows where nobody chose one.
                if (ended && !chosen && piece.newest > piece.attempt) {
                    write(`— attempt ${piece.attempt + 1} —\n`);
                    attempt = String(piece.attempt + 1);
                    seat = null;
                    next = 0;
                    ended = false;
                    soon = true;
                }
            }
        } catch { /* the page says that the server is gone; the next event asks again */ }
        asking = false;
        if (!ended) again = setTimeout(ask, soon ? 0 : EVERY);
    }
    function place(piece) {
        if (!where) return;
        const before = piece.from === 0 ? "all of it" : `${size(piece.from)} before this are left out here`;
        where.textContent = piece.source === "file"
            ? `${before}; read from ${piece.path} on this host`
            : `${before}; the worker on ${piece.host} sends the last 16 KiB each second, the rest is only there, in ${piece.path}`;
    }
    choice?.addEventListener("change", () => {
        const [number, host] = choice.value.split(".");
        chosen = choice.selectedIndex > 0;
        begin(number, host ?? null, null);
        ask();
    });
    follow?.addEventListener("change", () => { if (follow.checked) toEnd(); });
    document.addEventListener("visibilitychange", () => { if (!document.hidden) ask(); });
    on("jobs", ask);
    toEnd();
    ask();
}
