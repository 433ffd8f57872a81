// Fetches what the page needs while its scripts are fetched: who the user is, the answer that the view in the address
// waits for, and the scripts of that view. It is not a module: it runs before them.

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
  // The answers are read here too, so that the call that takes them need not wait.
  globalThis.firstAnswers = new Map();
  for (const asked of ["dashboard/session", ...(question ? [`api/v1/${question}`] : [])]) {
    const { href } = new URL(asked, document.baseURI);
    const answer = fetch(href, { headers: { Accept: "application/json" } }).then(async (found) => {
      const text = await found.text();
      return { ok: found.ok, status: found.status, text: () => text };
    });
    answer.catch(() => {}); // what takes it hears of it
    globalThis.firstAnswers.set(href, answer);
  }

  for (const name of JSON.parse(views)[view] ?? []) {
    document.head.append(Object.assign(document.createElement("link"), { rel: "modulepreload", href: folder + name }));
  }
}
