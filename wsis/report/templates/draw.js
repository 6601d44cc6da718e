"use strict";
// Masks from their run-length codes, drawn over a picture.

const LAYERS = ["mask", "box", "ignore", "truth"];
const LAYER_NAMES = { mask: "Mask", box: "Box", ignore: "Ignored", truth: "True mask" };

/** COCO's compressed counts to (width * height) bytes, 0 or 1, column by column. */
function decodeCounts(text, width, height) {
  const mask = new Uint8Array(width * height);
  const counts = [];
  for (let at = 0; at < text.length; ) {
    let value = 0, shift = 0, digit;
    do {
      digit = text.charCodeAt(at++) - 48;
      value |= (digit & 31) << shift;
      shift += 5;
    } while (digit & 32);
    if (digit & 16) value |= -1 << shift;
    if (counts.length > 2) value += counts[counts.length - 2];
    counts.push(value);
  }
  let place = 0;
  counts.forEach((count, i) => {
    if (i % 2) mask.fill(1, place, place + count);
    place += count;
  });
  return mask;
}

/** The edges between inside and outside as a path in the picture's pixels. */
function outline(mask, width, height) {
  const path = new Path2D();
  const at = (x, y) => (x < 0 || y < 0 || x >= width || y >= height ? 0 : mask[x * height + y]);
  for (let x = 0; x <= width; x++) {
    for (let y = 0, start = -1; y <= height; y++) {
      const edge = y < height && at(x - 1, y) !== at(x, y);
      if (edge && start < 0) start = y;
      if (!edge && start >= 0) { path.moveTo(x, start); path.lineTo(x, y); start = -1; }
    }
  }
  for (let y = 0; y <= height; y++) {
    for (let x = 0, start = -1; x <= width; x++) {
      const edge = x < width && at(x, y - 1) !== at(x, y);
      if (edge && start < 0) start = x;
      if (!edge && start >= 0) { path.moveTo(start, y); path.lineTo(x, y); start = -1; }
    }
  }
  return path;
}

/** A canvas of the picture's size, opaque black inside the mask. */
function stencil(mask, width, height) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(width, height);
  for (let x = 0; x < width; x++)
    for (let y = 0; y < height; y++)
      if (mask[x * height + y]) pixels.data[4 * (y * width + x) + 3] = 255;
  context.putImageData(pixels, 0, 0);
  return canvas;
}

/** Stripes of a colour, one third of the area, for the pixels that a student's mask loss skips. */
function stripes(context, colour, ratio) {
  const tile = document.createElement("canvas");
  const side = Math.round(9 * ratio);
  tile.width = tile.height = side;
  const pen = tile.getContext("2d");
  pen.strokeStyle = colour;
  pen.lineWidth = side / 4;
  for (const shift of [-side, 0, side]) {
    pen.beginPath();
    pen.moveTo(shift - 1, side + 1);
    pen.lineTo(shift + side + 1, -1);
    pen.stroke();
  }
  return context.createPattern(tile, "repeat");
}

/** Fills the stencil's pixels with a style, through a canvas of the target's size. */
function fillThrough(context, shape, style, opacity, place) {
  const canvas = document.createElement("canvas");
  canvas.width = context.canvas.width;
  canvas.height = context.canvas.height;
  const pen = canvas.getContext("2d");
  pen.imageSmoothingEnabled = false;
  pen.drawImage(shape, place.x, place.y, place.width, place.height);
  pen.globalCompositeOperation = "source-in";
  pen.fillStyle = typeof style === "function" ? style(pen) : style;
  pen.fillRect(0, 0, canvas.width, canvas.height);
  context.globalAlpha = opacity;
  context.drawImage(canvas, 0, 0);
  context.globalAlpha = 1;
}

/** Where a picture lies in a canvas that shows all of it, as object-fit: contain does. */
function placeOf(picture, canvas) {
  const scale = Math.min(canvas.width / picture.width, canvas.height / picture.height);
  const width = picture.width * scale, height = picture.height * scale;
  return { x: (canvas.width - width) / 2, y: (canvas.height - height) / 2, width, height, scale };
}

/** Strokes a path given in the picture's pixels: a dark line beneath, the colour above. */
function strokeBoth(context, place, path, colour, ratio, dash = []) {
  const placed = new Path2D();
  placed.addPath(path, new DOMMatrix([place.scale, 0, 0, place.scale, place.x, place.y]));
  context.lineJoin = "round";
  context.setLineDash([]);
  context.strokeStyle = "rgb(0 0 0 / 0.65)";
  context.lineWidth = 3.2 * ratio;
  context.stroke(placed);
  context.setLineDash(dash.map((length) => length * ratio));
  context.strokeStyle = colour;
  context.lineWidth = 1.6 * ratio;
  context.stroke(placed);
  context.setLineDash([]);
}

/** Draws the layers that are on over a picture, a record of the page, that is shown in a square of so many CSS pixels. */
function drawLayers(canvas, side, picture, shown, colours, weight) {
  const ratio = Math.min(window.devicePixelRatio || 1, 2);
  canvas.width = canvas.height = Math.round(side * ratio);
  const line = ratio * weight;
  const context = canvas.getContext("2d");
  const place = placeOf(picture, canvas);
  const { width, height } = picture;
  const mask = (layer) => (shown[layer] && picture[layer] ? decodeCounts(picture[layer], width, height) : null);
  const [found, ignored, truth] = ["mask", "ignore", "truth"].map(mask);
  if (ignored)
    fillThrough(context, stencil(ignored, width, height), (pen) => stripes(pen, colours.ignore, ratio), 0.85, place);
  if (found) {
    fillThrough(context, stencil(found, width, height), colours.mask, 0.38, place);
    strokeBoth(context, place, outline(found, width, height), colours.mask, line);
  }
  if (truth) strokeBoth(context, place, outline(truth, width, height), colours.truth, line);
  if (shown.box) {
    const [x0, y0, x1, y1] = picture.box;
    const path = new Path2D();
    path.rect(x0, y0, x1 - x0, y1 - y0);
    strokeBoth(context, place, path, colours.box, line, [5, 3]);
  }
}
