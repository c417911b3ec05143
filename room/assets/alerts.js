// The number of a new rule is asked for only where its kind counts something.
const form = document.querySelector("form.rule");
function show() {
    const usual = form.querySelector("input[name=kind]:checked")?.dataset.amount;
    form.querySelector("#amount-label").hidden = !usual;
    if (usual) {
        const [number, ...unit] = usual.split(" ");
        form.querySelector("#amount").placeholder = number;
        form.querySelector("#amount-unit").textContent = `${unit.join(" ")}; ${number} where empty`;
    }
    form.querySelector("input[name=pauses]").closest("label").hidden = form.querySelector("input[name=kind]:checked")?.value !== "sweep";
}
if (form) {
    form.addEventListener("change", show);
    show();
}
