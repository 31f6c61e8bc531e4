// Runs a form outside Python and writes what it answers.
//
//   node exits.mjs PACKAGES RUNTIME FORM.onnx TABLE.bin ANSWERS.bin
//
// PACKAGES is a folder with node_modules, RUNTIME "onnxruntime-node" or "onnxruntime-web" (its
// WebAssembly, on one thread). All numbers of TABLE and ANSWERS have four bytes, little-endian.
// TABLE: int32 images, channels, height, width, levels, thresholds per level, number of batch
// sizes; int32 batch sizes, which take turns; float32 images; float32 thresholds.
// ANSWERS, each level after the other: int32 exits; int32 labels; float32 confidences.

import { createRequire } from "node:module";
import { readFileSync, writeFileSync } from "node:fs";
import { resolve } from "node:path";

const [packages, runtime, form, table, answers] = process.argv.slice(2);
const ort = createRequire(resolve(packages, "package.json"))(runtime);
if (runtime === "onnxruntime-web") {
  ort.env.wasm.numThreads = 1;
}

const bytes = readFileSync(table);
const buffer = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
const [count, channels, height, width, levels, early, turns] = new Int32Array(buffer, 0, 7);
const sizes = new Int32Array(buffer, 28, turns);
const size = channels * height * width;
const images = new Float32Array(buffer, 28 + 4 * turns, count * size);
const thresholds = new Float32Array(buffer, 28 + 4 * (turns + count * size), levels * early);

const session = await ort.InferenceSession.create(form, {
  executionProviders: [runtime === "onnxruntime-web" ? "wasm" : "cpu"],
  intraOpNumThreads: 1,
});
const exits = [];
const labels = [];
const confidences = [];
for (let level = 0; level < levels; level++) {
  const own = thresholds.slice(level * early, (level + 1) * early);
  for (let start = 0, turn = 0; start < count; turn++) {
    const rows = Math.min(sizes[turn % turns], count - start);
    const pixels = images.slice(start * size, (start + rows) * size);
    const found = await session.run({
      images: new ort.Tensor("float32", pixels, [rows, channels, height, width]),
      thresholds: new ort.Tensor("float32", own, [early]),
    });
    const classes = found.probabilities.dims[1];
    for (let row = 0; row < rows; row++) {
      const shares = found.probabilities.data.slice(row * classes, (row + 1) * classes);
      exits.push(Number(found.exit.data[row]));
      labels.push(shares.indexOf(Math.max(...shares)));
      confidences.push(found.confidence.data[row]);
    }
    start += rows;
  }
}
const parts = [Int32Array.from(exits), Int32Array.from(labels), Float32Array.from(confidences)];
writeFileSync(answers, Buffer.concat(parts.map((part) => Buffer.from(part.buffer))));
