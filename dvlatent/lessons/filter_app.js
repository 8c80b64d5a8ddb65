// The filter in a notebook: what people touch. The kernel edits; see filter_app.py.

function make(kind, parent, words = "", options = {}) {
  const element = Object.assign(document.createElement(kind), options);
  if (words) element.textContent = words;
  parent?.append(element);
  return element;
}

function render({ model, el }) {
  const root = make("div", el, "", { className: "dvapp" }), stage = make("div", root, "", { className: "dvapp-stage" });
  const before = make("img", stage, "", { alt: "the photo before the edit" });
  const after = make("img", stage, "", { alt: "the photo after the edit", className: "dvapp-after" });
  const divider = make("input", stage, "", { type: "range", min: 0, max: 100, value: 50, step: 0.5 });
  divider.setAttribute("aria-label", "before and after");
  const panel = make("div", root, "", { className: "dvapp-panel" });
  const file = make("input", null, "", { type: "file", accept: "image/*", hidden: true });
  panel.append(file);
  make("button", panel, "Choose a photo").onclick = () => file.click();
  const camera = make("button", panel, "Use the camera");
  const status = make("p", panel);
  status.setAttribute("role", "status");

  const picture = (image, name) => {
    const bytes = model.get(name);
    stage.hidden = !bytes?.byteLength;
    if (stage.hidden) return;
    URL.revokeObjectURL(image.src);
    image.src = URL.createObjectURL(new Blob([bytes], { type: "image/jpeg" }));
  };
  const split = () => { after.style.clipPath = `inset(0 0 0 ${divider.value}%)`; };
  const send = async (blob) => {
    if (!blob) return;
    status.textContent = "Looking for faces …";
    model.set("_given", new DataView(await blob.arrayBuffer()));
    model.save_changes();
  };
  const say = () => { status.textContent = model.get("words"); };

  for (const dial of model.get("_dials")) {
    const row = make("label", panel, "", { className: "dvapp-dial" });
    make("span", row, dial.name);
    make("small", row, dial.ends[0]);
    const range = make("input", row, "", { type: "range", min: dial.low, max: dial.high, step: (dial.high - dial.low) / 40, value: model.get("strengths")[dial.name] ?? 0 });
    range.value = model.get("strengths")[dial.name] ?? 0;
    range.setAttribute("aria-label", `${dial.name}: ${dial.ends[0]} to ${dial.ends[1]}`);
    make("small", row, dial.ends[1]);
    range.onchange = () => {
      model.set("strengths", { ...model.get("strengths"), [dial.name]: Number(range.value) });
      model.save_changes();
    };
  }
  file.onchange = () => send(file.files[0]);
  divider.oninput = split;
  camera.onclick = async () => {
    let stream;
    try {
      stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "user" }, audio: false });
      const video = make("video", null, "", { srcObject: stream, muted: true, playsInline: true });
      await video.play();
      await new Promise((done) => setTimeout(done, 600)); // the first pictures of a camera are dark
      const canvas = make("canvas", null, "", { width: video.videoWidth, height: video.videoHeight });
      canvas.getContext("2d").drawImage(video, 0, 0);
      canvas.toBlob(send, "image/jpeg", 0.95);
    } catch {
      status.textContent = "The camera could not be opened: allow it in the browser, or choose a photo.";
    } finally {
      stream?.getTracks().forEach((track) => track.stop());
    }
  };
  const listeners = { "change:_before": () => picture(before, "_before"), "change:_after": () => picture(after, "_after"), "change:words": say };
  for (const [name, listener] of Object.entries(listeners)) model.on(name, listener);
  picture(before, "_before"), picture(after, "_after"), say(), split();
  return () => { // when the view goes away
    for (const [name, listener] of Object.entries(listeners)) model.off(name, listener);
    for (const image of [before, after]) URL.revokeObjectURL(image.src);
  };
}

export default { render };
