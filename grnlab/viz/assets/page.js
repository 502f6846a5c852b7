// The state of the page and its controls. `window.grnlab` lets tests and other pages read and set it.

const page = {
  group: null, other: null, gene: null, community: null, focus: false, view: meta.groups.length > 1 ? 'overview' : 'hubs',
  level: 0, threshold: 0, colouring: 'community',
};
const TABS_UP_TO = 8; // more cell types than this make a list instead of tabs
const scenes = [];

function say(text) { element('status').textContent = text; }

const comparison = () => (page.other === null ? null : compareGroups(page.group.number, page.other));
const shownCount = () => countAbove(page.group, page.level, page.threshold);

// --- what the canvas shows

function refresh({ fit = true } = {}) {
  const { group } = page;
  const pair = comparison();
  const wasPair = !element('canvas-right').hidden;
  if (pair && !wasPair) element('legend').open = false; // the Compare table explains the colours
  showLegend();
  element('canvas-right').hidden = !pair;
  element('stage-names').hidden = !pair;
  if (Boolean(pair) !== wasPair) scenes.forEach((scene) => scene.resize());
  if (pair) {
    comparePictures(pair, page.gene === null ? null : group.genes.name[page.gene]).forEach((picture, side) => scenes[side].show(picture, { fit: fit && side === 0 }));
    element('name-left').textContent = group.name;
    element('name-right').textContent = pair.right.name;
    scenes[1].look(scenes[0].view, { tell: false });
  } else {
    scenes[0].show(page.focus
      ? focusPicture(group, page.gene, page)
      : levelPicture(group, { level: page.level, count: shownCount(), colouring: page.colouring }), { fit });
  }
  relight();
  showCounts();
}

// Put the chosen gene with its neighbours, or the chosen community, into the light.
function relight({ follow = false } = {}) {
  const active = comparison() ? scenes : [scenes[0]];
  active.forEach((scene, side) => {
    scene.light = lightOf(scene.picture, side);
    scene.request();
  });
  const { light } = scenes[0];
  if (follow && light && light.nodes.size) scenes[0].fit(light.nodes, Math.max(scenes[0].view.scale, 1));
  element('clear').hidden = page.gene === null && page.community === null && !page.focus;
}

function lightOf(picture, side) {
  const { group } = page;
  if (page.focus && !comparison()) return null;
  if (page.gene !== null) {
    const name = group.genes.name[page.gene];
    const chosen = comparison() ? picture.label.indexOf(name) : scenes[0].byId.get(page.gene) ?? -1;
    if (chosen < 0) return null;
    const nodes = new Set([chosen]);
    const edges = edgesAt(picture, chosen).map((edge) => {
      const out = picture.edges.source[edge] === chosen;
      nodes.add(out ? picture.edges.target[edge] : picture.edges.source[edge]);
      const colour = comparison() ? picture.styles[picture.edges.style[edge]].colour : out ? colours().outgoing : colours().incoming;
      return [edge, colour];
    });
    return { nodes, edges, chosen };
  }
  if (page.community === null || side) return null;
  const nodes = new Set();
  picture.ids.forEach((id, node) => { if (group.genes.community[comparison() ? group.byName.get(picture.label[node]) ?? 0 : id] === page.community) nodes.add(node); });
  const edges = [];
  picture.edges.source.forEach((source, edge) => { if (nodes.has(source) && nodes.has(picture.edges.target[edge])) edges.push([edge, picture.styles[picture.edges.style[edge]].colour]); });
  return { nodes, edges, chosen: null };
}

function showCounts() {
  const { group, level } = page;
  const pair = comparison();
  const shown = shownCount();
  const held = group.edges.source.length;
  element('count').textContent = pair
    ? `the strongest edges of the main hubs: ${scenes[0].picture.edges.source.length} on the left, ${scenes[1].picture.edges.source.length} on the right`
    : page.focus ? `${plural(scenes[0].picture.edges.source.length, 'strongest edge')} of ${shorten(group.genes.name[page.gene], 40)}`
      : `showing ${shown.toLocaleString('en')} of ${plural(group.n_edges, 'edge')}${held < group.n_edges && level === group.levels.length - 1 ? ' (the strongest of every gene)' : ''} · ${group.drawn[level].toLocaleString('en')} of ${plural(group.n_genes, 'gene')}`;
  const weakest = group.atLevel[level][shown - 1];
  element('threshold').textContent = shown ? formatNumber(group.strength[weakest]) : '–';
  element('weight').setAttribute('aria-valuetext', shown ? `at least ${formatNumber(group.strength[weakest])}, ${plural(shown, 'edge')} shown` : 'no edge');
  writeLink(page);
}

// --- choices

function chooseGene(gene, { follow = true } = {}) {
  const focused = page.focus;
  Object.assign(page, { gene, community: null, focus: focused && gene !== null });
  if (gene !== null && page.other === null) page.view = 'gene';
  else if (page.view === 'gene') page.view = 'hubs';
  // a gene that this level does not show brings the first level that does
  const first = gene === null ? 0 : page.group.genes.level[gene];
  const compared = page.other !== null; // its picture takes the chosen gene's own edges in
  const lacking = !compared && gene !== null && first > page.level && first < page.group.levels.length;
  if (lacking) { page.level = first; setControls(); }
  if (focused || lacking || compared) refresh(); else relight({ follow });
  const { genes } = page.group;
  say(gene === null ? '' : `${shorten(genes.name[gene], 60)}: ${plural(genes.in_degree[gene], 'regulator')}, ${plural(genes.out_degree[gene], 'target')}`);
  showPanel();
  markLegend();
  showCounts();
}

function turnFocus(on) {
  page.focus = on && page.gene !== null;
  refresh();
  showPanel();
}

function chooseCommunity(id) {
  const focused = page.focus;
  Object.assign(page, { community: page.community === id ? null : id, gene: null, focus: false });
  if (page.view === 'gene') page.view = 'communities';
  if (focused) refresh(); else relight();
  showPanel();
  markLegend();
  showCounts();
}

function setLevel(level) {
  Object.assign(page, { level: Math.min(level, page.group.levels.length - 1), focus: false });
  setControls();
  refresh();
  showPanel();
}

// The slider runs over ranks, not weights: weights are skewed, and half of the way should hide half of the edges.
function setControls() {
  const { group, level } = page;
  const slider = element('weight');
  const last = Math.max(0, group.atLevel[level].length - 1);
  slider.max = last;
  slider.disabled = last === 0 || page.other !== null;
  slider.value = last - Math.max(0, shownCount() - 1);
  const titles = element('detail');
  titles.replaceChildren(...group.levels.map((title, at) => make('option', { value: at }, title)));
  titles.value = String(level);
  titles.disabled = page.other !== null || group.levels.length === 1;
  element('colouring').value = page.colouring;
  element('colouring').disabled = page.other !== null;
  element('save').disabled = group.edges.source.length === 0;
}

function readSlider() {
  const { group, level } = page;
  const slider = element('weight');
  const place = Number(slider.max) - Number(slider.value);
  page.threshold = Number(slider.value) === 0 ? 0 : group.strength[group.atLevel[level][place]];
  refresh({ fit: false });
}

function showGroup(number, keep = {}) {
  const before = page.group && page.gene !== null ? page.group.genes.name[page.gene] : null;
  const group = loadGroup(number);
  const gene = before === null ? null : group.byName.get(before) ?? null;
  Object.assign(page, { group, community: null, gene, threshold: 0, focus: page.focus && gene !== null }, keep);
  if (page.other === number) page.other = null;
  page.level = Math.min(page.level, group.levels.length - 1);
  if (gene !== null && group.genes.level[gene] < group.levels.length) page.level = Math.max(page.level, group.genes.level[gene]);
  if ((page.gene === null && page.view === 'gene') || (page.other === null && page.view === 'compare')) page.view = 'hubs';
  markGroups(number);
  element('empty').hidden = group.n_edges > 0;
  setControls();
  refresh();
  showPanel();
  say(before !== null && gene === null ? `${shorten(before, 60)} is not listed in ${shorten(group.name, 60)}.` : '');
  element('provenance-body').replaceChildren(Object.keys(group.provenance).length ? provenanceView(group.provenance) : 'Nothing was recorded.');
}

function compareWith(number) {
  page.other = number === page.group.number ? null : number;
  page.focus = false;
  page.view = page.other === null ? 'hubs' : 'compare';
  element('versus').value = page.other === null ? '' : String(page.other);
  setControls();
  refresh();
  showPanel();
}

// Escape goes one step back: out of the focus, then out of the light, then out of the comparison.
function stepBack() {
  if (page.focus) turnFocus(false);
  else if (page.gene !== null || page.community !== null) chooseGene(null);
  else if (page.other !== null) compareWith(page.group.number);
}

function setTheme(name) {
  if (name) document.documentElement.dataset.theme = name; else delete document.documentElement.dataset.theme;
  forgetColours();
  element('theme').textContent = isDark() ? 'Light' : 'Dark';
  if (page.group) refresh({ fit: false });
}

window.grnlab = {
  meta, showGroup, setLevel, compareWith, turnFocus,
  chooseGene: (name) => chooseGene(name === null ? null : geneCalled(page.group, name)),
  state: () => ({
    group: page.group.name, gene: page.gene === null ? null : page.group.genes.name[page.gene], community: page.community, focus: page.focus,
    view: page.view, level: page.level, levels: page.group.levels.length, threshold: page.threshold, colouring: page.colouring,
    other: page.other === null ? null : meta.groups[page.other].name,
    nodes: scenes[0].picture.x.length, edges: scenes[0].picture.edges.source.length, lit: scenes[0].light ? scenes[0].light.edges.length : null,
    resting: scenes.every((scene) => !scene.pending && !scene.job), scale: scenes[0].view.scale,
  }),
  pointOf: (name) => scenes[0].pointOf(scenes[0].picture.label.indexOf(name)),
};
