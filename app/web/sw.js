// Keeps the whole page on the device, so that it works without a network, and gives it the headers that threads need.

const PAGE = `face-filter-${new URL(self.registration.scope).pathname}`; // another page on this host has caches of its own
const CACHE = `${PAGE}-BUILD`;
const UNUSED = new URLSearchParams(location.search).get("runtime") === "webgpu" ? /^vendor\/ort\/.*(?<!jspi)\.(min\.mjs|mjs|wasm)$/ : /^vendor\/ort\/.*jspi/;
const FILES = [/*FILES*/].filter((file) => !UNUSED.test(file)); // a device needs one of the two runtimes

self.addEventListener("install", (event) => {
  event.waitUntil(caches.open(CACHE).then((cache) => cache.addAll(FILES.map((file) => new Request(file, { cache: "no-cache" })))).then(() => self.skipWaiting()));
});

self.addEventListener("activate", (event) => {
  event.waitUntil((async () => {
    for (const name of await caches.keys()) if (name.startsWith(`${PAGE}-`) && name !== CACHE) await caches.delete(name);
    await self.clients.claim();
  })());
});

self.addEventListener("fetch", (event) => {
  if (event.request.method !== "GET" || new URL(event.request.url).origin !== location.origin) return;
  event.respondWith(answer(event.request));
});

async function answer(request) {
  const response = (await (await caches.open(CACHE)).match(request, { ignoreSearch: true })) ?? (await fetch(request));
  if (response.type === "opaque" || response.status === 0) return response;
  const headers = new Headers(response.headers);
  headers.set("Cross-Origin-Opener-Policy", "same-origin");
  headers.set("Cross-Origin-Embedder-Policy", "require-corp");
  return new Response(response.body, { status: response.status, statusText: response.statusText, headers });
}
