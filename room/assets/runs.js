// The table of runs: stars without leaving the page, the number of ticked runs, filters folded on phones.
import { post, refresh } from "/assets/room.js";

const table = document.getElementById("runs");
const picked = document.getElementById("picked");

document.addEventListener("submit", async (event) => {
    const form = event.target;
    if (!form.matches("form[data-mark]") || event.defaultPrevented) return;
    event.preventDefault();
    const fields = new URLSearchParams(new FormData(form, event.submitter));
    try {
        await post(form.getAttribute("action"), fields);
        await refresh(table);
    } catch (error) {
        if (picked) picked.textContent = error.message;
    }
});

// One box of seeds that are together stands for all of them.
document.getElementById("pick")?.addEventListener("formdata", (event) => {
    const boxes = [...document.querySelectorAll('input[form="pick"][data-runs]:checked')];
    if (!boxes.length) return;
    event.formData.delete("run");
    for (const box of boxes) for (const run of box.dataset.runs.split(" ")) event.formData.append("run", run);
});

function tell() {
    const ticked = document.querySelectorAll('input[form="pick"]:checked').length;
    if (picked) picked.textContent = ticked ? `${ticked} ticked:` : "Ticked runs:";
}
document.addEventListener("change", (event) => { if (event.target.matches('input[form="pick"]')) tell(); });
table?.addEventListener("refreshed", tell);

const side = document.querySelector(".runs > .side");
if (side && matchMedia("(max-width: 900px)").matches) side.open = false;
