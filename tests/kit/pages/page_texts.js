// The texts and names of a page that are not code and have no language of their own: a function for the page.
() => {
    const found = [];
    const apart = "code, pre, kbd, script, style, noscript, .mono, .id, .command, .zone, [lang]:not(html), [translate='no']";
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
        const element = node.parentElement;
        if (element.closest(apart) || !element.checkVisibility({ visibilityProperty: true })) continue;
        if (node.data.trim()) found.push(node.data.trim());
    }
    for (const name of ["aria-label", "title", "placeholder", "alt"]) {
        for (const element of document.querySelectorAll(`[${name}]`)) {
            if (!element.closest("code, pre, script, [lang]:not(html), [translate='no']")) found.push(element.getAttribute(name));
        }
    }
    return [...new Set(found)];
}
