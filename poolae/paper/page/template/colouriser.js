// Colours photographs with the paper's networks, in a worker: plain loops over typed arrays.
// A map of features is {channels, height, width, data}; data holds each channel with a border of
// one zero all round, so that a 3x3 convolution needs to know of no edge.
"use strict";

// Colour: sRGB and CIE Lab under D65, with the constants of scikit-image ----------------------

const WHITE = [0.95047, 1, 1.08883];
const TO_XYZ = [
  [0.412453, 0.35758, 0.180423],
  [0.212671, 0.71516, 0.072169],
  [0.019334, 0.119193, 0.950227],
];
const FROM_XYZ = [
  [3.24048134, -1.53715152, -0.49853633],
  [-0.96925495, 1.87599, 0.04155593],
  [0.05564664, -0.20404134, 1.05731107],
];
const LINEAR = Float64Array.from({ length: 256 }, (_, value) => {
  const v = value / 255;
  return v > 0.04045 ? ((v + 0.055) / 1.055) ** 2.4 : v / 12.92;
});
const dot = (row, x, y, z) => row[0] * x + row[1] * y + row[2] * z;
const root = (t) => (t > 0.008856 ? Math.cbrt(t) : 7.787 * t + 16 / 116);
const cube = (f) => (f > 0.2068966 ? f * f * f : (f - 16 / 116) / 7.787);
const encode = (v) => (v > 0.0031308 ? 1.055 * v ** (1 / 2.4) - 0.055 : 12.92 * v);

// RGBA bytes to lightness (n) and chroma (n pairs of a and b), all scaled to [0, 1].
function toLab(pixels) {
  const n = pixels.length / 4;
  const lightness = new Float32Array(n);
  const chroma = new Float32Array(2 * n);
  for (let i = 0; i < n; i++) {
    const rgb = [LINEAR[pixels[4 * i]], LINEAR[pixels[4 * i + 1]], LINEAR[pixels[4 * i + 2]]];
    const [x, y, z] = TO_XYZ.map((row, k) => root(dot(row, ...rgb) / WHITE[k]));
    lightness[i] = Math.min((116 * y - 16) / 100, 1);
    chroma[2 * i] = (500 * (x - y) + 128) / 255;
    chroma[2 * i + 1] = (200 * (y - z) + 128) / 255;
  }
  return { lightness, chroma };
}

// The way back, to RGBA bytes; what no screen can show is clipped.
function toPixels(lightness, chroma) {
  const pixels = new Uint8ClampedArray(4 * lightness.length).fill(255);
  for (let i = 0; i < lightness.length; i++) {
    const y = (100 * lightness[i] + 16) / 116;
    const x = WHITE[0] * cube(y + (255 * chroma[2 * i] - 128) / 500);
    const z = WHITE[2] * cube(Math.max(y - (255 * chroma[2 * i + 1] - 128) / 200, 0));
    const Y = cube(y);
    for (let k = 0; k < 3; k++) pixels[4 * i + k] = 255 * encode(dot(FROM_XYZ[k], x, Y, z));
  }
  return pixels;
}

// Size ----------------------------------------------------------------------------------------

// Resample the middle axis of (outer, length, inner) with a triangle filter, widened where it
// shrinks: Pillow's BILINEAR, down to its weights of 22 bits and its rounding of bytes after each
// axis, so that a network sees to the last bit what it would see in Python.
function resampleAxis(source, outer, length, inner, size) {
  const target = new source.constructor(outer * size * inner);
  const ofBytes = source instanceof Uint8ClampedArray;
  const scale = length / size;
  const reach = Math.max(scale, 1);
  for (let to = 0; to < size; to++) {
    const centre = (to + 0.5) * scale;
    const first = Math.max(Math.floor(centre - reach + 0.5), 0);
    const end = Math.min(Math.floor(centre + reach + 0.5), length);
    const weights = [];
    for (let k = first; k < end; k++) {
      weights.push(Math.max(1 - Math.abs((k - centre + 0.5) / reach), 0));
    }
    const total = weights.reduce((a, b) => a + b);
    const rounded = weights.map((weight) => Math.round((weight / total) * 2 ** 22) / 2 ** 22);
    for (let row = 0; row < outer; row++) {
      for (let i = 0; i < inner; i++) {
        let sum = 0;
        let at = (row * length + first) * inner + i;
        for (const weight of rounded) {
          sum += weight * source[at];
          at += inner;
        }
        target[(row * size + to) * inner + i] = ofBytes ? Math.floor(sum + 0.5) : sum;
      }
    }
  }
  return target;
}

// Resize rows of pixels, each of `channels` values, to another width and height.
function resize(pixels, width, height, channels, toWidth, toHeight) {
  const wide = resampleAxis(pixels, height, width, channels, toWidth);
  return resampleAxis(wide, 1, height, toWidth * channels, toHeight);
}

// Networks ------------------------------------------------------------------------------------

// Base64 of little-endian half-precision numbers to single precision.
function decodeHalves(base64) {
  const bytes = atob(base64);
  const powers = Array.from({ length: 32 }, (_, exponent) => 2 ** (Math.max(exponent, 1) - 25));
  return Float32Array.from({ length: bytes.length / 2 }, (_, i) => {
    const bits = bytes.charCodeAt(2 * i) | (bytes.charCodeAt(2 * i + 1) << 8);
    const exponent = (bits >> 10) & 31;
    const size = ((bits & 1023) + (exponent ? 1024 : 0)) * powers[exponent];
    return bits & 0x8000 ? -size : size;
  });
}

// Cut a network's weights into the parts of its convolutions.
function load({ name, of, size, mirrored, ops, weights }) {
  const values = decodeHalves(weights);
  let at = 0;
  const take = (n) => values.subarray(at, (at += n));
  const steps = ops.map((op) => {
    if (op.kind !== "conv") return op;
    const step = { ...op, weight: take(9 * op.inputs * op.outputs), bias: take(op.outputs) };
    if (op.normalised) Object.assign(step, { scale: take(op.outputs), shift: take(op.outputs) });
    return step;
  });
  return { name, of, size, mirrored, steps };
}

function emptyMap(channels, height, width) {
  const data = new Float32Array(channels * (height + 2) * (width + 2));
  return { channels, height, width, data };
}

// 3x3 convolution; if it is followed by a normalisation, ReLU, scale and shift as well.
function convolve({ height, width, data }, { inputs, outputs, weight, bias, scale, shift }) {
  const result = emptyMap(outputs, height, width);
  const stride = width + 2;
  const plane = stride * (height + 2);
  for (let o = 0; o < outputs; o++) {
    const out = result.data.subarray(o * plane, (o + 1) * plane);
    for (let i = 0; i < inputs; i++) {
      addConvolved(
        out,
        data.subarray(i * plane, (i + 1) * plane),
        weight.subarray(9 * (o * inputs + i), 9 * (o * inputs + i + 1)),
        height,
        width
      );
    }
    for (let y = 1; y <= height; y++) {
      for (let at = y * stride + 1; at <= y * stride + width; at++) {
        const value = out[at] + bias[o];
        out[at] = scale ? scale[o] * Math.max(value, 0) + shift[o] : value;
      }
    }
  }
  return result;
}

// Nearly all of the time is spent here. The window slides, so that each step reads three values.
function addConvolved(out, source, weight, height, width) {
  const [w0, w1, w2, w3, w4, w5, w6, w7, w8] = weight;
  const stride = width + 2;
  for (let y = 0; y < height; y++) {
    let at = y * stride;
    let a = source[at];
    let b = source[at + 1];
    let d = source[at + stride];
    let e = source[at + stride + 1];
    let g = source[at + 2 * stride];
    let h = source[at + 2 * stride + 1];
    for (const end = at + width; at < end; at++) {
      const c = source[at + 2];
      const f = source[at + stride + 2];
      const i = source[at + 2 * stride + 2];
      const above = w0 * a + w1 * b + w2 * c;
      const level = w3 * d + w4 * e + w5 * f;
      out[at + stride + 1] += above + level + w6 * g + w7 * h + w8 * i;
      a = b;
      b = c;
      d = e;
      e = f;
      g = h;
      h = i;
    }
  }
}

// Largest of 5x5 values at every second place; places outside the map do not count.
function pool({ channels, height, width, data }) {
  const result = emptyMap(channels, height / 2, width / 2);
  for (let c = 0; c < channels; c++) {
    const source = c * (height + 2) * (width + 2);
    const target = c * (result.height + 2) * (result.width + 2);
    for (let y = 0; y < result.height; y++) {
      for (let x = 0; x < result.width; x++) {
        let most = -Infinity;
        for (let v = Math.max(2 * y - 2, 0); v <= Math.min(2 * y + 2, height - 1); v++) {
          for (let u = Math.max(2 * x - 2, 0); u <= Math.min(2 * x + 2, width - 1); u++) {
            most = Math.max(most, data[source + (v + 1) * (width + 2) + u + 1]);
          }
        }
        result.data[target + (y + 1) * (result.width + 2) + x + 1] = most;
      }
    }
  }
  return result;
}

// Every value four times: nearest-neighbour upsampling by 2.
function upsample({ channels, height, width, data }) {
  const result = emptyMap(channels, 2 * height, 2 * width);
  for (let c = 0; c < channels; c++) {
    for (let y = 0; y < 2 * height; y++) {
      const source = (c * (height + 2) + (y >> 1) + 1) * (width + 2) + 1;
      const target = (c * (2 * height + 2) + y + 1) * (2 * width + 2) + 1;
      for (let x = 0; x < 2 * width; x++) result.data[target + x] = data[source + (x >> 1)];
    }
  }
  return result;
}

// Predict chroma, as pairs of a and b in [0, 1], from square lightness.
function predict(network, lightness) {
  const { size } = network;
  const chroma = answer(network, lightness);
  if (network.mirrored) {
    const mirrored = answer(network, flip(lightness, size, 1));
    flip(mirrored, size, 2).forEach((value, i) => (chroma[i] = (chroma[i] + value) / 2));
  }
  return chroma.map((value) => Math.min(Math.max(value, 0), 1));
}

// Mirror a square of so many values a pixel, left to right.
function flip(values, size, count) {
  return values.map((_, i) => {
    const x = Math.floor(i / count) % size;
    return values[i + (size - 1 - 2 * x) * count];
  });
}

// What the network itself answers, as yet unclipped.
function answer({ size, steps }, lightness) {
  let map = emptyMap(1, size, size);
  for (let y = 0; y < size; y++) {
    const row = lightness.subarray(y * size, (y + 1) * size);
    map.data.set(row, (y + 1) * (size + 2) + 1);
  }
  for (const step of steps) map = { conv: convolve, pool, up: upsample }[step.kind](map, step);
  const chroma = new Float32Array(2 * size * size);
  for (let i = 0; i < chroma.length; i++) {
    const [y, x] = [Math.floor(i / 2 / size), Math.floor(i / 2) % size];
    chroma[i] = map.data[((i % 2) * (size + 2) + y + 1) * (size + 2) + x + 1];
  }
  return chroma;
}

// Messages ------------------------------------------------------------------------------------

let networks = [];

// {networks} to begin with; then {job, pixels, width, height, of}, answered by the lightness, with
// null for a name, and once for each of these networks. With such an answer's chroma, and a file to save, it
// is answered by the pixels in these colours.
onmessage = ({ data }) => {
  if (data.networks) networks = data.networks.map(load);
  if (!data.pixels) return;
  const { job, pixels, width, height, file } = data;
  const whole = toLab(pixels);
  if (file) {
    const size = Math.sqrt(data.chroma.length / 2);
    const large = toPixels(whole.lightness, resize(data.chroma, size, size, 2, width, height));
    postMessage({ job, file, width, height, pixels: large }, [large.buffer]);
    return;
  }
  const grey = toPixels(whole.lightness, new Float32Array(2 * width * height).fill(128 / 255));
  postMessage({ job, name: null, width, height, pixels: grey });
  for (const network of networks.filter(({ of }) => of === data.of)) {
    const { name, size } = network;
    const small = toLab(resize(pixels, width, height, 4, size, size));
    const chroma = predict(network, small.lightness);
    const error = chroma.reduce((sum, v, i) => sum + Math.abs(v - small.chroma[i]), 0);
    const coloured = toPixels(whole.lightness, resize(chroma, size, size, 2, width, height));
    const answer = { job, name, width, height, pixels: coloured, chroma };
    postMessage({ ...answer, error: error / chroma.length }, [coloured.buffer, chroma.buffer]);
  }
};
