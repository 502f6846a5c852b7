// The drawing: vis-network on positions computed beforehand, no physics. A node's or an edge's id is its number.

const canvasBox = element('canvas');
const LABELS_FROM = 8.5; // height in pixels below which a name is not drawn
let network = null;
let drawing = null; // {group, nodes, edges, zoom (of the whole), scale (of the view), gene, community, shown, named}
const drawings = new Map();

function theme() {
  const style = getComputedStyle(document.documentElement);
  const read = (name) => style.getPropertyValue(name).trim();
  return {
    text: read('--text'), halo: read('--canvas'), faint: read('--faint-node'), other: read('--other-node'),
    rim: read('--rim'), edge: read('--edge'), faintEdge: read('--faint-edge'), incoming: read('--incoming'),
    outgoing: read('--outgoing'), accent: read('--accent'),
  };
}

function rgba(hex, alpha) {
  const value = parseInt(hex.slice(1), 16);
  return `rgba(${value >> 16},${(value >> 8) & 255},${value & 255},${alpha})`;
}

function visOptions() {
  return {
    autoResize: true,
    physics: false,
    layout: { improvedLayout: false, randomSeed: 0 },
    interaction: {
      hover: true, tooltipDelay: 120, selectConnectedEdges: false, zoomSpeed: 0.7,
      keyboard: { enabled: true, bindToWindow: false },
    },
    nodes: { borderWidth: 1, scaling: { label: { drawThreshold: LABELS_FROM, maxVisible: 15 } } },
    edges: {
      smooth: false, hoverWidth: 0, selectionWidth: 0, arrowStrikethrough: false, chosen: false,
      arrows: { to: { enabled: true, scaleFactor: 0.42 } },
    },
  };
}

// Where to look so that these genes (all drawn ones by default) fill the part of the canvas beside the legend.
function viewOf(group, genes = null, closest = 1.2) {
  const chosen = genes ? [...genes].filter((gene) => gene < group.n_drawn_genes) : group.genes.x.map((_, gene) => gene);
  const { radius } = group.genes;
  const range = (values) => chosen.reduce((seen, gene) => [
    Math.min(seen[0], values[gene] - radius[gene]), Math.max(seen[1], values[gene] + radius[gene]),
  ], [Infinity, -Infinity]);
  const [left, right] = chosen.length ? range(group.genes.x) : [0, 0];
  const [top, bottom] = chosen.length ? range(group.genes.y) : [0, 0];
  const legend = element('legend');
  const taken = legend.open && canvasBox.clientWidth > 620 ? legend.offsetWidth + 12 : 0;
  const scale = Math.min(
    closest,
    (canvasBox.clientWidth - taken - 60) / Math.max(60, right - left),
    (canvasBox.clientHeight - 60) / Math.max(60, bottom - top),
  );
  return { position: { x: (left + right) / 2, y: (top + bottom) / 2 }, scale: Math.max(0.02, scale), offset: { x: taken / 2, y: -6 } };
}

// Genes whose names are written: the most telling ones first, each only where it covers no other name.
function namedGenes(state, light) {
  const { group, scale } = state;
  const { x, y, rank, name, radius } = group.genes;
  const told = (gene) => (gene === state.gene ? 0 : rank[gene]);
  const candidates = [...(light || x.keys())].filter((gene) => gene < group.n_drawn_genes).sort((a, b) => told(a) - told(b)).slice(0, 120);
  const limit = light ? 45 : 28;
  const placed = [];
  const named = new Set();
  for (const gene of candidates) {
    const box = { x: x[gene] * scale, y: (y[gene] + radius[gene]) * scale + 9, half: Math.min(24, name[gene].length) * 4.1 + 3 };
    const free = placed.every((other) => Math.abs(other.y - box.y) > 15 || Math.abs(other.x - box.x) > other.half + box.half);
    if (gene === state.gene || free) { placed.push(box); named.add(gene); }
    if (named.size >= limit) break;
  }
  return named;
}

// What is in the light: everything, a gene with its shown neighbours, or a community.
function lit(state) {
  const { group } = state;
  if (state.gene !== null) {
    const genes = new Set([state.gene]);
    const shown = shownEdges(group);
    group.outgoing[state.gene].forEach((edge) => { if (edge < shown) genes.add(group.edges.target[edge]); });
    group.incoming[state.gene].forEach((edge) => { if (edge < shown) genes.add(group.edges.source[edge]); });
    return genes;
  }
  if (state.community === null) return null;
  const members = new Set();
  group.genes.community.forEach((id, gene) => { if (id === state.community) members.add(gene); });
  return members;
}

function nodeLook(state, gene, light, colours) {
  const { group, zoom, scale } = state;
  const dim = light !== null && !light.has(gene);
  const chosen = gene === state.gene;
  const fill = dim ? colours.faint : group.colour[gene] || colours.other;
  const size = chosen ? 15 / scale : state.named.has(gene) ? 12.5 / scale : LABELS_FROM / (2.4 * zoom);
  return {
    id: gene,
    color: {
      background: fill, border: chosen ? colours.text : dim ? colours.faint : colours.rim,
      highlight: { background: fill, border: colours.text }, hover: { background: fill, border: colours.text },
    },
    borderWidth: 0.8, // in pixels of the screen: vis divides by the zoom
    borderWidthSelected: 3,
    font: {
      size, color: dim ? 'rgba(0,0,0,0)' : colours.text, strokeColor: dim ? 'rgba(0,0,0,0)' : colours.halo,
      strokeWidth: size / 4.5, face: 'system-ui, -apple-system, "Segoe UI", Roboto, sans-serif',
    },
  };
}

function edgeLook(state, edge, light, colours) {
  const { group, scale } = state;
  const source = group.edges.source[edge];
  const target = group.edges.target[edge];
  const share = 1 - edge / Math.max(1, group.n_drawn_edges);
  let color = rgba(group.colour[source] || colours.edge, 0.12 + 0.5 * share * share);
  let width = (0.4 + 1.3 * share * share) / scale;
  if (state.gene !== null) {
    if (target === state.gene) { color = colours.incoming; width += 0.7 / scale; }
    else if (source === state.gene) { color = colours.outgoing; width += 0.7 / scale; }
    else { color = colours.faintEdge; }
  } else if (light !== null && !(light.has(source) && light.has(target))) {
    color = colours.faintEdge;
  }
  return { id: edge, color: { color, highlight: color, hover: color }, width, hidden: edge >= state.shown };
}

function tooltip(group, gene) {
  const { genes } = group;
  const lines = [shorten(genes.name[gene], 60)];
  if (genes.is_tf && genes.is_tf[gene]) lines.push('transcription factor');
  lines.push(`hub rank ${genes.rank[gene].toLocaleString('en')}`);
  lines.push(`${plural(genes.out_degree[gene], 'target')}, ${plural(genes.in_degree[gene], 'regulator')}`);
  return lines.join('\n');
}

function buildDrawing(group) {
  const zoom = viewOf(group).scale;
  const state = { group, zoom, scale: zoom, gene: null, community: null, shown: shownEdges(group) };
  state.named = namedGenes(state, null);
  const colours = theme();
  const nodes = [];
  for (let gene = 0; gene < group.n_drawn_genes; gene += 1) {
    nodes.push({
      ...nodeLook(state, gene, null, colours),
      x: group.genes.x[gene],
      y: group.genes.y[gene],
      shape: group.genes.is_tf && group.genes.is_tf[gene] ? 'diamond' : 'dot',
      size: group.genes.radius[gene] * (group.genes.is_tf && group.genes.is_tf[gene] ? 1.25 : 1),
      label: shorten(group.genes.name[gene], 24),
      title: tooltip(group, gene),
    });
  }
  const edges = [];
  for (let edge = group.n_drawn_edges - 1; edge >= 0; edge -= 1) { // weak ones first, so strong ones lie on top
    const entry = { ...edgeLook(state, edge, null, colours), from: group.edges.source[edge], to: group.edges.target[edge] };
    if ((group.edges.sign ? group.edges.sign[edge] : group.edges.weight[edge]) < 0) {
      entry.arrows = { to: { enabled: true, type: 'bar', scaleFactor: 0.42 } };
    }
    edges.push(entry);
  }
  state.nodes = new vis.DataSet(nodes);
  state.edges = new vis.DataSet(edges);
  return state;
}

function drawGroup(group, handlers) {
  if (!network) {
    network = new vis.Network(canvasBox, { nodes: [], edges: [] }, visOptions());
    network.on('click', (event) => {
      const gene = network.getNodeAt(event.pointer.DOM);
      handlers.click(gene === undefined ? null : gene);
    });
  }
  if (!drawings.has(group.number)) drawings.set(group.number, buildDrawing(group));
  drawing = drawings.get(group.number);
  network.setData({ nodes: drawing.nodes, edges: drawing.edges });
  fitDrawing(false);
}

function look(view, animate) {
  const calm = matchMedia('(prefers-reduced-motion: reduce)').matches;
  network.moveTo({ ...view, animation: animate && !calm ? { duration: 300, easingFunction: 'easeInOutQuad' } : false });
}

function fitDrawing(animate) {
  look(viewOf(drawing.group), animate);
}

// Bring the drawing to what is chosen: a gene, a community, and the edges above the threshold. With `focus` the
// view moves to what is in the light.
function restyle({ gene, community }, { focus = false, force = false } = {}) {
  const state = drawing;
  const { group } = state;
  const before = { ...state };
  Object.assign(state, { gene: gene !== null && gene < group.n_drawn_genes ? gene : null, community, shown: shownEdges(group) });
  const relit = force || state.gene !== before.gene || community !== before.community;
  const light = lit(state);
  const view = focus && light !== null ? viewOf(group, light, Math.max(state.zoom, Math.min(0.9, state.zoom * 2.5))) : null;
  if (view) look(view, true);
  if (relit || (state.gene !== null && state.shown !== before.shown)) {
    if (relit) state.scale = view ? view.scale : light ? network.getScale() : state.zoom;
    state.named = namedGenes(state, light);
    const colours = theme();
    state.nodes.update(Array.from({ length: group.n_drawn_genes }, (_, other) => nodeLook(state, other, light, colours)));
    if (relit) state.edges.update(Array.from({ length: group.n_drawn_edges }, (_, edge) => edgeLook(state, edge, light, colours)));
  }
  if (!relit && state.shown !== before.shown) {
    const low = Math.min(before.shown, state.shown);
    const changed = Math.abs(before.shown - state.shown);
    state.edges.update(Array.from({ length: changed }, (_, place) => ({ id: low + place, hidden: low + place >= state.shown })));
  }
  if (state.gene === null) network.unselectAll(); else network.selectNodes([state.gene], false);
}
