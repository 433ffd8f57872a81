// Fetches what the view in the address needs while the scripts of the frame are fetched: the answer that it waits for, and
// its scripts. It is not a module: it runs before them.

{
  const { folder, views } = document.currentScript.dataset;
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?", 2);
  const [section, id] = path.split("/");
  const view = `${section || "overview"}${id ? "/" : ""}`;

  const fields = "type,queue,status,title,progress,error,attempt,user_id,worker,created_at,started_at,finished_at,updated_at,tags,run_at,cancel_requested,workflow_id,key";
  /** What these views ask first, unless something else was chosen on them. */
  const questions = {
    overview: () => (sessionStorage.getItem("celeriac.overview.span") ?? "1h") === "1h" && "stats?bucket=1m&by=type",
    tasks: () => !query && `tasks?limit=200&fields=${encodeURIComponent(fields)}`,
  };
  const question = Object.hasOwn(questions, view) && questions[view]();
  // If the scripts of the frame were quicker, they ask by themselves.
  if (question && !globalThis.firstAnswers) {
    const { href } = new URL(`api/v1/${question}`, document.baseURI);
    const answer = fetch(href, { headers: { Accept: "application/json" } });
    answer.catch(() => {}); // the view that takes it hears of it
    globalThis.firstAnswers = new Map([[href, answer]]);
  }

  for (const name of JSON.parse(views)[view] ?? []) {
    document.head.append(Object.assign(document.createElement("link"), { rel: "modulepreload", href: folder + name }));
  }
}
