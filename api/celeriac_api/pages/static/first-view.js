// Fetches the scripts of the view in the address while those of the frame are fetched. It is not a module: it runs before them.

{
  const { folder, views } = document.currentScript.dataset;
  const [path] = location.hash.replace(/^#\/?/, "").split("?", 1);
  const [section, id] = path.split("/");
  const known = JSON.parse(views);
  for (const name of known[`${section || "overview"}${id ? "/" : ""}`] ?? []) {
    document.head.append(Object.assign(document.createElement("link"), { rel: "modulepreload", href: folder + name }));
  }
}
