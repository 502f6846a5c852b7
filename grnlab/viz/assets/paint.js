// How edges, genes and names are drawn, on a canvas and as the shapes of an SVG file.

// Lines in batches; a generator, so that painting can stop between two of them.
function* paintEdges(context, picture, view, width, height) {
  const { source, target, style, bar } = picture.edges;
  const { x, y, radius, styles, arrows } = picture;
  const { scale } = view;
  let at = 0;
  while (at < source.length) {
    const first = at;
    const look = styles[style[at]];
    context.strokeStyle = look.colour;
    context.lineWidth = look.width;
    context.beginPath();
    const heads = [];
    while (at < source.length && at < first + BATCH && style[at] === style[first]) {
      const from = source[at];
      const to = target[at];
      const x1 = x[from] * scale + view.x;
      const y1 = y[from] * scale + view.y;
      const x2 = x[to] * scale + view.x;
      const y2 = y[to] * scale + view.y;
      if (Math.max(x1, x2) >= 0 && Math.min(x1, x2) <= width && Math.max(y1, y2) >= 0 && Math.min(y1, y2) <= height) {
        context.moveTo(x1, y1);
        context.lineTo(x2, y2);
        if (arrows) heads.push(arrowHead(x1, y1, x2, y2, radius[to] * scale, look.width, bar[at]));
      }
      at += 1;
    }
    context.stroke();
    paintHeads(context, heads, look.colour);
    yield;
  }
}

// Corners of an arrow head that ends at the rim of a gene; for a negative edge those of a bar across.
function arrowHead(x1, y1, x2, y2, rim, thick, bar) {
  const length = Math.hypot(x2 - x1, y2 - y1) || 1;
  const ux = (x2 - x1) / length;
  const uy = (y2 - y1) / length;
  const long = 4 + 1.6 * thick;
  const half = bar ? long * 0.75 : long * 0.45;
  const deep = bar ? 1.6 : long;
  const tip = Math.max(rim, 1.5) + 1;
  const [ax, ay] = [x2 - ux * tip, y2 - uy * tip];
  const [bx, by] = [ax - ux * deep, ay - uy * deep];
  if (bar) return [ax - uy * half, ay + ux * half, ax + uy * half, ay - ux * half, bx + uy * half, by - ux * half, bx - uy * half, by + ux * half];
  return [ax, ay, bx - uy * half, by + ux * half, bx + uy * half, by - ux * half];
}

function paintHeads(context, heads, colour) {
  if (!heads.length) return;
  context.fillStyle = colour;
  context.beginPath();
  heads.forEach((corners) => {
    context.moveTo(corners[0], corners[1]);
    for (let i = 2; i < corners.length; i += 2) context.lineTo(corners[i], corners[i + 1]);
    context.closePath();
  });
  context.fill();
}

// Lit edges: [edge, colour] pairs.
function paintLines(context, picture, view, lit, heads) {
  const { x, y, radius, edges, styles } = picture;
  const groups = new Map();
  lit.forEach(([edge, colour]) => { if (!groups.has(colour)) groups.set(colour, []); groups.get(colour).push(edge); });
  groups.forEach((members, colour) => {
    context.strokeStyle = colour;
    for (let start = 0; start < members.length; start += BATCH) {
      const batch = members.slice(start, start + BATCH);
      const width = styles[edges.style[batch[0]]].width * (lit.length > 300 ? 0.7 : 1) + (lit.length > 300 ? 0 : 0.4);
      context.lineWidth = width;
      context.beginPath();
      const tips = [];
      batch.forEach((edge) => {
        const [x1, y1, x2, y2] = lineOf(picture, view, edge);
        context.moveTo(x1, y1);
        context.lineTo(x2, y2);
        if (heads) tips.push(arrowHead(x1, y1, x2, y2, radius[edges.target[edge]] * view.scale, width, edges.bar[edge]));
      });
      context.globalAlpha = members.length > 300 ? 0.35 : 0.85;
      context.stroke();
      paintHeads(context, tips, colour);
      context.globalAlpha = 1;
    }
  });
}

function lineOf({ x, y, edges }, { scale, x: left, y: top }, edge) {
  const from = edges.source[edge];
  const to = edges.target[edge];
  return [x[from] * scale + left, y[from] * scale + top, x[to] * scale + left, y[to] * scale + top];
}

function edgesAt({ edges }, node) {
  const found = [];
  for (let edge = 0; edge < edges.source.length; edge += 1) if (edges.source[edge] === node || edges.target[edge] === node) found.push(edge);
  return found;
}

function sizeOf(picture, view, node) {
  return Math.max(1.3, picture.radius[node] * view.scale) * (picture.diamond[node] ? 1.25 : 1);
}

function paintNodes(context, picture, view, nodes, chosen = null) {
  const { other, rim, text } = colours();
  context.lineWidth = 0.8;
  for (const node of nodes) {
    const x = picture.x[node] * view.scale + view.x;
    const y = picture.y[node] * view.scale + view.y;
    const size = sizeOf(picture, view, node);
    context.beginPath();
    if (picture.diamond[node]) {
      context.moveTo(x - size, y); context.lineTo(x, y - size); context.lineTo(x + size, y); context.lineTo(x, y + size);
      context.closePath();
    } else {
      context.arc(x, y, size, 0, 2 * Math.PI);
    }
    context.fillStyle = picture.fill[node] || other;
    context.fill();
    if (node === chosen) {
      context.lineWidth = 2.5; context.strokeStyle = text; context.stroke(); context.lineWidth = 0.8;
    } else if (size > 2.2) {
      context.strokeStyle = rim;
      context.stroke();
    }
  }
}

// Names to write: the most telling genes first, each only where it covers no other name.
function labelsOf(picture, view, order, width, height, { bold, limit = 45 }) {
  const placed = [];
  let tried = 0;
  for (const node of order) {
    const x = picture.x[node] * view.scale + view.x;
    const y = picture.y[node] * view.scale + view.y + sizeOf(picture, view, node) + 12;
    if (x < 0 || x > width || y < 0 || y > height + 10) continue;
    const text = shorten(picture.label[node], 24);
    const half = text.length * 3.6 + 4;
    if (node === bold || placed.every((other) => Math.abs(other.y - y) > 14 || Math.abs(other.x - x) > other.half + half)) {
      placed.push({ x, y, half, text, bold: node === bold });
    }
    tried += 1;
    if (placed.length >= limit || tried >= 400) break;
  }
  return placed;
}

function paintLabels(context, labels) {
  context.textAlign = 'center';
  context.lineJoin = 'round';
  context.lineWidth = 3.2;
  context.strokeStyle = colours().canvas;
  context.fillStyle = colours().text;
  labels.forEach(({ x, y, text, bold }) => {
    context.font = `${bold ? '700 13px' : '12px'} ${FONT}`;
    context.strokeText(text, x, y);
    context.fillText(text, x, y);
  });
}

// The same drawing as shapes, for the SVG file.
Scene.prototype.shapes = function shapes() {
  const { picture, view, light } = this;
  const { edges, styles } = picture;
  const list = [];
  const line = (edge, colour, width, heads) => {
    const [x1, y1, x2, y2] = lineOf(picture, view, edge);
    if (Math.max(x1, x2) < 0 || Math.min(x1, x2) > this.width || Math.max(y1, y2) < 0 || Math.min(y1, y2) > this.height) return;
    list.push(['line', x1, y1, x2, y2, colour, width]);
    if (heads) list.push(['head', arrowHead(x1, y1, x2, y2, picture.radius[edges.target[edge]] * view.scale, width, edges.bar[edge]), colour]);
  };
  const node = (at, opacity) => {
    const { x, y } = this.pointOf(at);
    if (x > -50 && x < this.width + 50 && y > -50 && y < this.height + 50) list.push(['node', x, y, sizeOf(picture, view, at), picture.diamond[at], picture.fill[at] || colours().other, opacity]);
  };
  if (!light) for (let edge = 0; edge < edges.source.length; edge += 1) line(edge, styles[edges.style[edge]].colour, styles[edges.style[edge]].width, picture.arrows);
  for (let at = 0; at < picture.x.length; at += 1) if (!light || !light.nodes.has(at)) node(at, light ? 0.13 : 1);
  if (light) {
    light.edges.forEach(([edge, colour]) => line(edge, colour, styles[edges.style[edge]].width + 0.4, true));
    light.nodes.forEach((at) => node(at, 1));
  }
  const order = light ? Uint32Array.from(light.nodes).sort((a, b) => picture.priority[a] - picture.priority[b]) : this.byPriority;
  labelsOf(picture, view, order, this.width, this.height, { bold: light ? light.chosen : null, limit: light ? 60 : 45 })
    .forEach(({ x, y, text, bold }) => list.push(['text', x, y, text, bold]));
  return list;
};
