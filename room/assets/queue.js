// The order of the queue, changed by dragging a handle or by arrow keys on it.
import { post, refresh } from "/assets/room.js";

const part = () => document.getElementById("jobs");
const list = () => document.getElementById("order");
const say = (text) => { document.getElementById("moved").textContent = text; };
const jobs = () => [...list().children];

/** Tells the server where a job stands now: before the one that follows it. */
async function settle(item) {
    const name = item.querySelector(".name").textContent;
    const next = item.nextElementSibling?.dataset.job ?? list().dataset.next ?? null;
    try {
        const moved = await post(`/api/v1/queue/${item.dataset.job}/move`, { before: next });
        say(`${name} is number ${moved.position} now, with priority ${moved.priority}.`);
    } catch (error) {
        say(`${name} was not moved: ${error.message}`);
        const lost = document.getElementById("lost");
        lost.hidden = false;
        lost.textContent = `${name} was not moved: ${error.message}`;
    }
    free();
}
// While somebody moves a job the list is theirs.
const hold = () => { part().dataset.asking = "1"; };
function free() { delete part().dataset.asking; delete part().dataset.again; refresh(part()); }

document.addEventListener("keydown", async (event) => {
    const grip = event.target.closest?.(".grip");
    if (!grip || !["ArrowUp", "ArrowDown", "Home"].includes(event.key)) return;
    event.preventDefault();
    const item = grip.closest("li");
    const [before, after] = [item.previousElementSibling, item.nextElementSibling];
    if (event.key === "ArrowUp" && before) before.before(item);
    else if (event.key === "ArrowDown" && after) after.after(item);
    else if (event.key === "Home" && before) list().prepend(item);
    else return;
    hold();
    grip.focus();
    await settle(item);
    document.querySelector(`[data-job="${item.dataset.job}"] .grip`)?.focus();
});

document.addEventListener("pointerdown", (event) => {
    const grip = event.target.closest?.(".grip");
    if (!grip || event.button !== 0) return;
    const item = grip.closest("li");
    const first = jobs().indexOf(item);
    hold();
    item.classList.add("held");
    const move = (at) => {
        // At the edge of the window the page moves along.
        if (at.clientY < 60) scrollBy(0, -12); else if (at.clientY > innerHeight - 40) scrollBy(0, 12);
        for (const other of jobs()) {
            if (other === item) continue;
            const box = other.getBoundingClientRect();
            if (at.clientY < box.top || at.clientY > box.bottom) continue;
            if (at.clientY < box.top + box.height / 2) other.before(item); else other.after(item);
            break;
        }
    };
    // On the document: an element that is moved within the page loses its pointer.
    const over = new AbortController();
    const end = async (at) => {
        over.abort();
        item.classList.remove("held");
        if (at.type === "pointercancel" || jobs().indexOf(item) === first) free();
        else await settle(item);
    };
    const once = { signal: over.signal };
    document.addEventListener("pointermove", move, once);
    document.addEventListener("pointerup", end, once);
    document.addEventListener("pointercancel", end, once);
});
