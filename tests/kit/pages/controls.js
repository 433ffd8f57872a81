// What a user can press, choose, drag or write in: `{group, name}` of each control that is visible. A function for the page.
(inside) => {
    const clean = (text) => (text ?? "").replace(/\s+/g, " ").trim();
    const root = document.querySelector("[popover]:popover-open") ?? document.querySelector("dialog[open]") ?? document.querySelector(inside);
    const within = (label) => [...label.childNodes].filter((one) => !one.matches?.("input, select, textarea, .small"));
    const named = (element) => {
        // Every value has its own names, and there are many routes and messages.
        if (element.localName === "summary" && element.closest(".tree")) return "a value";
        if (element.localName === "summary" && element.parentElement.matches(".route")) return "a route";
        if (element.localName === "summary" && element.closest(".log")) return "a message";
        const label = element.getAttribute("aria-label");
        if (label) return clean(label);
        const labels = [...(element.labels ?? [])].map((one) => within(one).map((part) => part.textContent).join(""));
        return clean(labels.join(" ")) || clean(element.textContent) || clean(element.title) || clean(element.placeholder);
    };
    const wanted = `button, input, select, textarea, summary, a.button, a[download], [role=button], [role=slider],
        [role=switch], [role=tab], [role=menuitem], [role=listbox], [role=option], [draggable=true], [contenteditable],
        .stage-bars, svg rect[tabindex]`;
    return [...root.querySelectorAll(wanted)]
        .filter((one) => one.checkVisibility({ visibilityProperty: true }) && one.getClientRects().length)
        .filter((one) => !one.matches(".row, .palette [role=option], .graph [role=option]"))
        .map((one) => ({ group: clean(one.closest("[role=group]")?.getAttribute("aria-label")), name: named(one) }));
}
