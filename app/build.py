"""Build the page of the filter into build/app: `make app`. What it takes from others comes through npm, pinned by package-lock.json."""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
VENDOR = {  # from node_modules, to the page
    "onnxruntime-web/dist/ort.wasm.min.mjs": "vendor/ort/ort.wasm.min.mjs",
    "onnxruntime-web/dist/ort-wasm-simd-threaded.mjs": "vendor/ort/ort-wasm-simd-threaded.mjs",
    "onnxruntime-web/dist/ort-wasm-simd-threaded.wasm": "vendor/ort/ort-wasm-simd-threaded.wasm",
    "onnxruntime-web/dist/ort.jspi.min.mjs": "vendor/ort/ort.jspi.min.mjs",
    "onnxruntime-web/dist/ort-wasm-simd-threaded.jspi.mjs": "vendor/ort/ort-wasm-simd-threaded.jspi.mjs",
    "onnxruntime-web/dist/ort-wasm-simd-threaded.jspi.wasm": "vendor/ort/ort-wasm-simd-threaded.jspi.wasm",
    "@vladmandic/human/dist/human.esm.js": "vendor/human/human.esm.js",
    "@vladmandic/human/models/blazeface.json": "vendor/human/models/blazeface.json",
    "@vladmandic/human/models/blazeface.bin": "vendor/human/models/blazeface.bin",
    "@vladmandic/human/models/facemesh.json": "vendor/human/models/facemesh.json",
    "@vladmandic/human/models/facemesh.bin": "vendor/human/models/facemesh.bin",
    "@tensorflow/tfjs-backend-wasm/dist/tfjs-backend-wasm-simd.wasm": "vendor/tfjs/tfjs-backend-wasm-simd.wasm",
    "@tensorflow/tfjs-backend-wasm/dist/tfjs-backend-wasm-threaded-simd.wasm": "vendor/tfjs/tfjs-backend-wasm-threaded-simd.wasm",
    "@tensorflow/tfjs-backend-wasm/dist/tfjs-backend-wasm.wasm": "vendor/tfjs/tfjs-backend-wasm.wasm",
}
LICENSES = ("onnxruntime-web", "@vladmandic/human", "@tensorflow/tfjs-backend-wasm")
SAMPLES = (85, 265, 1024)  # seeds of the three generated faces
SQUEEZED = {".js", ".mjs", ".json", ".wasm", ".bin", ".onnx", ".weights", ".html", ".css", ".svg", ".webmanifest"}


def main() -> int:
    """Build the page; gives the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("build/app"), help="the folder to write (default build/app)")
    arguments = parser.parse_args()
    npm = shutil.which("npm")
    if npm is None:
        print("The page needs npm, which comes with Node 18 or newer (Debian and Ubuntu: apt-get install npm).", file=sys.stderr)
        return 1
    if subprocess.run([npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=HERE).returncode:
        print("npm could not fetch what the page needs: its last lines say why. Then run the same command again.", file=sys.stderr)
        return 1
    build(arguments.out)
    wire = [path for path in arguments.out.rglob("*") if path.is_file() and not Path(f"{path}.gz").exists()]
    files = [path for path in wire if "jspi" not in path.name]  # a device takes one runtime: this is the other one, 0.5 MB larger
    size = sum(path.stat().st_size for path in files)
    print(f"{arguments.out}: {size / 1e6:.1f} MB over the wire at the first visit. `dvlatent app` serves it.")
    return 0


def build(out: Path) -> None:
    """Write the whole page: our files, those of others, the filters, three faces; and the list of them all for use without a network."""
    draft = out.with_name(out.name + ".draft")
    shutil.rmtree(draft, ignore_errors=True)
    shutil.copytree(HERE / "web", draft)
    for source, target in VENDOR.items():
        (draft / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(HERE / "node_modules" / source, draft / target)
    for package in LICENSES:
        folder = HERE / "node_modules" / package
        texts = sorted(path for path in folder.iterdir() if path.name.upper().startswith("LICENSE"))
        declared = json.loads((folder / "package.json").read_text())["license"]
        words = texts[0].read_text() if texts else f"{package}: {declared}\n"
        (draft / f"vendor/LICENSE-{package.strip('@').replace('/', '-')}.txt").write_text(words)
    filters(draft / "filters")
    samples(draft / "samples")
    files = sorted(path.relative_to(draft).as_posix() for path in draft.rglob("*") if path.is_file() and path.name != "sw.js")
    digest = hashlib.sha256(b"".join((draft / file).read_bytes() for file in files)).hexdigest()[:12]
    worker = draft / "sw.js"
    listed = ", ".join(json.dumps(file) for file in [".", *(file for file in files if not file.startswith("vendor/LICENSE"))])
    worker.write_text(worker.read_text().replace("BUILD", digest).replace("/*FILES*/", listed))
    for path in list(draft.rglob("*")):
        if path.suffix in SQUEEZED:
            Path(f"{path}.gz").write_bytes(gzip.compress(path.read_bytes(), 9, mtime=0))
    shutil.rmtree(out, ignore_errors=True)
    draft.replace(out)


def filters(folder: Path) -> None:
    """Every shipped filter that adds colors, and a list of them all."""
    import dvlatent
    from dvlatent.distillation.filter import export_web

    folder.mkdir(parents=True)
    order = ("age", "gender", "smile")  # as on the page; others come after
    names = [name.removesuffix("-filter") for name in dvlatent.available() if name.endswith("-filter")]
    names.sort(key=lambda name: (order.index(name) if name in order else len(order), name))
    shipped = [dvlatent.load(f"{name}-filter") for name in names]
    rows = [export_web(one, folder) for one in shipped if not one.moves]  # the page adds colors: it has no way to move pixels
    (folder / "filters.json").write_text(json.dumps(rows, indent=1) + "\n")


def samples(folder: Path) -> None:
    """Three people who do not exist, for visitors without a photo."""
    import dvlatent
    from dvlatent import images
    from dvlatent.latents import w_of

    folder.mkdir(parents=True)
    faces = dvlatent.load("faces")
    for number, seed in enumerate(SAMPLES, start=1):
        ws = dvlatent.broadcast(w_of(faces, [seed], 0.7), faces.num_layers)
        images.write(images.resize(faces.synthesis(ws), 768), folder / f"face-{number}.jpg")


if __name__ == "__main__":
    sys.exit(main())
