// A canvas that shows a picture: {x, y, radius, diamond, fill, label, priority, ids, edges: {source, target, style,
// bar}, styles: [{colour, width}], arrows}. Edges lie sorted by style, faint ones first.
//
// Level of detail: everything but the highlighted part is painted once into a bitmap somewhat larger than the canvas.
// While the view moves the bitmap is shown moved and scaled; when it rests, a sharp one is painted in slices of a few
// milliseconds, so that no frame waits for the whole. Small pictures are painted anew for every frame.

const LIVE_EDGES = 1500; // pictures up to this size are painted for every frame
const LIVE_NODES = 600;
const SLICE = 9; // milliseconds of painting per frame
const REST = 110; // milliseconds after which a view counts as resting
const BATCH = 200; // lines per stroke
const MARGIN = 0.25; // of the canvas, on each side of the bitmap
const FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif';

class Scene {
  constructor(box) {
    this.box = box;
    this.canvas = make('canvas', { 'aria-hidden': 'true' });
    box.append(this.canvas);
    this.context = this.canvas.getContext('2d');
    this.front = this.bitmap();
    this.back = this.bitmap();
    this.view = { scale: 1, x: 0, y: 0 };
    this.light = null; // {nodes: Set, edges: [[edge, colour], ...], chosen}
    this.picture = null;
    this.dragged = null;
    this.moved = -Infinity;
    this.stale = true;
    this.frames = 0;
    this.onView = () => {};
    new ResizeObserver(() => this.resize()).observe(box);
    this.resize();
  }

  bitmap() {
    const canvas = document.createElement('canvas');
    // in main memory on purpose: a slice is over when it is over, whatever the graphics card
    return { canvas, context: canvas.getContext('2d', { willReadFrequently: true }), view: null };
  }

  resize() {
    const { clientWidth, clientHeight } = this.box;
    const ratio = Math.min(devicePixelRatio || 1, 2);
    if (!clientWidth || !clientHeight || (clientWidth === this.width && clientHeight === this.height && ratio === this.ratio)) return;
    const before = this.width ? [this.width, this.height] : null;
    Object.assign(this, { width: clientWidth, height: clientHeight, ratio });
    this.canvas.width = Math.round(clientWidth * ratio);
    this.canvas.height = Math.round(clientHeight * ratio);
    if (before) { // what was in the middle stays there
      this.view.x += (clientWidth - before[0]) / 2;
      this.view.y += (clientHeight - before[1]) / 2;
    }
    this.repaint();
    if (this.picture && !before) this.fit();
    this.frame();
  }

  show(picture, { fit = true } = {}) {
    this.picture = picture;
    this.dragged = null;
    this.byId = new Map(Array.from(picture.ids, (id, node) => [id, node]));
    this.byPriority = Uint32Array.from(picture.ids.keys()).sort((a, b) => picture.priority[a] - picture.priority[b]);
    this.front.view = null;
    if (fit) this.fit();
    this.repaint();
  }

  get live() { return this.picture.edges.source.length <= LIVE_EDGES && this.picture.x.length <= LIVE_NODES; }

  repaint() { this.stale = true; this.job = null; this.request(); }

  request() {
    if (this.pending) return;
    this.pending = true;
    requestAnimationFrame(() => this.frame());
  }

  look(view, { tell = true } = {}) {
    this.view = { ...view };
    this.moved = performance.now();
    this.job = null;
    if (tell) this.onView(this.view);
    this.request();
  }

  fit(nodes = null, closest = 1.5) {
    const { x, y, radius } = this.picture;
    const chosen = nodes ?? x.keys();
    let [left, right, top, bottom] = [Infinity, -Infinity, Infinity, -Infinity];
    for (const node of chosen) {
      left = Math.min(left, x[node] - radius[node]); right = Math.max(right, x[node] + radius[node]);
      top = Math.min(top, y[node] - radius[node]); bottom = Math.max(bottom, y[node] + radius[node]);
    }
    if (left > right) [left, right, top, bottom] = [0, 0, 0, 0];
    const inset = this.inset ? this.inset() : 0;
    const scale = Math.max(0.01, Math.min(closest, (this.width - inset - 70) / Math.max(60, right - left), (this.height - 60) / Math.max(60, bottom - top)));
    this.look({ scale, x: (this.width + inset) / 2 - scale * (left + right) / 2, y: (this.height - 10) / 2 - scale * (top + bottom) / 2 });
    this.moved = -Infinity; // a jump, not a movement
  }

  zoom(factor, x = this.width / 2, y = this.height / 2) {
    const { view } = this;
    const scale = Math.min(8, Math.max(0.01, view.scale * factor));
    const grown = scale / view.scale;
    this.look({ scale, x: x - (x - view.x) * grown, y: y - (y - view.y) * grown });
  }

  at(x, y) {
    const { picture, view } = this;
    let best = null;
    let nearest = Infinity;
    for (let node = 0; node < picture.x.length; node += 1) {
      const gap = Math.hypot(picture.x[node] * view.scale + view.x - x, picture.y[node] * view.scale + view.y - y);
      const reach = Math.max(6, picture.radius[node] * view.scale * 1.1);
      if (gap <= reach && gap / reach < nearest) { best = node; nearest = gap / reach; }
    }
    return best;
  }

  pointOf(node) {
    const { picture, view } = this;
    return { x: picture.x[node] * view.scale + view.x, y: picture.y[node] * view.scale + view.y };
  }

  frame() {
    this.pending = false;
    this.frames += 1;
    if (!this.picture || !this.width) return;
    const { view, front } = this;
    const off = !front.view || front.view.scale !== view.scale || front.view.x !== view.x || front.view.y !== view.y;
    if (this.stale || off) {
      if (this.live) {
        this.begin(0);
        this.slice(Infinity);
      } else if (performance.now() - this.moved < REST || this.dragged !== null) {
        clearTimeout(this.timer);
        this.timer = setTimeout(() => this.request(), REST + 10);
      } else {
        if (!this.job) this.begin(MARGIN);
        if (!this.slice(SLICE)) this.request();
      }
    }
    this.compose();
  }

  // Start a new bitmap of the present view.
  begin(margin) {
    const { width, height, ratio, view, back } = this;
    const mx = Math.round(width * margin);
    const my = Math.round(height * margin);
    const size = [Math.round((width + 2 * mx) * ratio), Math.round((height + 2 * my) * ratio)];
    back.context.setTransform(1, 0, 0, 1, 0, 0);
    if (back.canvas.width !== size[0] || back.canvas.height !== size[1]) [back.canvas.width, back.canvas.height] = size;
    else back.context.clearRect(0, 0, ...size);
    back.context.setTransform(ratio, 0, 0, ratio, 0, 0);
    Object.assign(back, { view: { ...view }, mx, my });
    const seen = { scale: view.scale, x: view.x + mx, y: view.y + my };
    this.job = { painter: paintEdges(back.context, this.picture, seen, width + 2 * mx, height + 2 * my), seen };
    this.stale = false;
  }

  // Paint for some milliseconds; true when the bitmap is whole.
  slice(budget) {
    const { job, back, picture } = this;
    const start = performance.now();
    for (;;) {
      if (job.painter.next().done) break;
      if (budget < Infinity) back.context.getImageData(0, 0, 1, 1); // paint now, not some time later
      if (performance.now() - start > budget) return false;
    }
    paintNodes(back.context, picture, job.seen, picture.x.keys());
    const [width, height] = [this.width + 2 * back.mx, this.height + 2 * back.my];
    paintLabels(back.context, labelsOf(picture, job.seen, this.byPriority, width, height, { bold: null }));
    [this.front, this.back] = [back, this.front];
    this.job = null;
    return true;
  }

  compose() {
    const { context, view, ratio, picture, light } = this;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, this.width, this.height);
    const shown = this.front.view ? this.front : this.job ? this.back : null; // the first bitmap is shown as it grows
    if (shown) {
      const grown = view.scale / shown.view.scale;
      const left = view.x - (shown.view.x + shown.mx) * grown;
      const top = view.y - (shown.view.y + shown.my) * grown;
      context.globalAlpha = light ? 0.13 : 1;
      context.drawImage(shown.canvas, left, top, (shown.canvas.width / ratio) * grown, (shown.canvas.height / ratio) * grown);
      context.globalAlpha = 1;
      if (shown === this.back && picture.x.length) paintNodes(context, picture, view, picture.x.keys());
    }
    if (light) this.paintLight(context);
    if (this.dragged !== null && !this.live) {
      this.incident ??= edgesAt(picture, this.dragged);
      paintLines(context, picture, view, this.incident.map((edge) => [edge, colours().accent]), false);
      paintNodes(context, picture, view, [this.dragged]);
    }
  }

  paintLight(context) {
    const { light, picture, view } = this;
    paintLines(context, picture, view, light.edges, light.edges.length <= LIVE_EDGES);
    paintNodes(context, picture, view, light.nodes, light.chosen);
    const order = Uint32Array.from(light.nodes).sort((a, b) => (b === light.chosen) - (a === light.chosen) || picture.priority[a] - picture.priority[b]);
    paintLabels(context, labelsOf(picture, view, order, this.width, this.height, { bold: light.chosen, limit: 60 }));
  }

  paintWhole(context) {
    const { picture, view, light } = this;
    context.globalAlpha = light ? 0.13 : 1;
    for (const _ of paintEdges(context, picture, view, this.width, this.height));
    paintNodes(context, picture, view, picture.x.keys());
    context.globalAlpha = 1;
    if (light) this.paintLight(context);
    else paintLabels(context, labelsOf(picture, view, this.byPriority, this.width, this.height, { bold: null }));
  }
}
