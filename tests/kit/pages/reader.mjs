// What the catalogue of the pages asks of a browser: a reader without a chosen language, and files that can be fetched.
import { readFile } from 'node:fs/promises';

globalThis.document = { cookie: '', documentElement: {}, getElementById: () => null };
if (!globalThis.navigator) globalThis.navigator = { languages: ['en'] };
globalThis.fetch = async (url) => new Response(await readFile(url));
