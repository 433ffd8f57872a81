// What is outside of the window, and what is cut off: a function for the page.
() => {
    const found = [];
    const wide = document.documentElement.scrollWidth;
    if (wide > innerWidth) found.push(`the page is ${wide} px wide in a window of ${innerWidth} px`);
    // What a box scrolls or clips on purpose is not lost.
    const held = (element) => {
        for (let box = element.parentElement; box; box = box.parentElement) {
            const { overflowX } = getComputedStyle(box);
            if (overflowX !== "visible") return true;
        }
        return false;
    };
    for (const element of document.querySelectorAll("button, a, input, select, textarea, h1, h2, h3, p, td, th, dd, dt")) {
        const box = element.getBoundingClientRect();
        if (!box.width || !box.height || !element.checkVisibility({ visibilityProperty: true, opacityProperty: true })) continue;
        if (element.closest(".skip, .visually-hidden, [hidden]")) continue;
        const name = `${element.tagName.toLowerCase()} ${(element.innerText || element.value || "").trim().slice(0, 40)}`;
        if ((box.right > innerWidth + 1 || box.left < -1) && !held(element)) found.push(`${name}: outside of the window`);
        const cut = element.tagName === "BUTTON" && element.scrollWidth > element.clientWidth + 1;
        if (cut && getComputedStyle(element).overflowX !== "visible") found.push(`${name}: cut off`);
        if (element.tagName === "BUTTON" && element.scrollWidth > box.width + 2) found.push(`${name}: its text is wider than it`);
    }
    return [...new Set(found)];
}
