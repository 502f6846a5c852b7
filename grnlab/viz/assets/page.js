// The state of the page and its controls. `window.grnlab` lets tests and other pages read and set it.

const page = { group: null, gene: null, community: null, view: 'hubs' };
const TABS_UP_TO = 8; // more cell types than this make a list instead of tabs

function say(text) { element('status').textContent = text; }

function chooseGene(gene, { focus = true } = {}) {
  page.gene = gene;
  page.community = null;
  if (gene !== null) page.view = 'gene';
  else if (page.view === 'gene') page.view = 'hubs';
  restyle(page, { focus });
  say(gene === null ? '' : `${shorten(page.group.genes.name[gene], 60)}: ${plural(page.group.genes.in_degree[gene], 'regulator')}, ${plural(page.group.genes.out_degree[gene], 'target')}`);
  showPanel();
  markLegend();
}

function chooseCommunity(id) {
  page.community = page.community === id ? null : id;
  page.gene = null;
  if (page.view === 'gene') { page.view = 'communities'; showPanel(); }
  restyle(page);
  markLegend();
}

function showPanel() {
  const { group, gene, view } = page;
  element('views').replaceChildren(...VIEWS.map(([key, title]) => make('button', {
    type: 'button', role: 'tab', id: `tab-${key}`, 'aria-controls': 'view', 'aria-selected': String(key === view),
    tabindex: key === view ? 0 : -1, onclick: () => { page.view = key; showPanel(); },
  }, title)));
  const choose = (other) => chooseGene(other);
  const content = {
    gene: () => geneView(group, gene, choose), hubs: () => hubsView(group, choose),
    communities: () => communitiesView(group, choose, chooseCommunity), edges: () => edgesView(group, choose),
  }[view]();
  element('view').setAttribute('aria-labelledby', `tab-${view}`);
  element('view').replaceChildren(...content);
  element('view').scrollTop = 0;
}

function showCounts() {
  const { group } = page;
  const shown = shownEdges(group);
  const all = group.n_edges.toLocaleString('en');
  const chosen = group.n_drawn_edges < group.n_edges ? ' (drawn: the strongest of every gene)' : '';
  element('count').textContent = `showing ${shown.toLocaleString('en')} of ${all} edges${chosen} · ${group.n_drawn_genes.toLocaleString('en')} of ${plural(group.n_genes, 'gene')}`;
  element('threshold').textContent = group.n_drawn_edges ? formatNumber(group.threshold) : '–';
  element('weight').setAttribute('aria-valuetext', `at least ${formatNumber(group.threshold)}, ${plural(shown, 'edge')} shown`);
}

// The slider runs over ranks, not weights: weights are skewed, and half of the way should hide half of the edges.
function setSlider(group) {
  const slider = element('weight');
  const last = Math.max(0, group.n_drawn_edges - 1);
  slider.max = last;
  slider.disabled = last === 0;
  slider.value = last - Math.max(0, shownEdges(group) - 1);
}

function readSlider() {
  const { group } = page;
  group.threshold = group.strength[Number(element('weight').max) - Number(element('weight').value)];
  restyle(page);
  showCounts();
}

function markLegend() {
  document.querySelectorAll('#legend-body button').forEach((button) => {
    button.setAttribute('aria-pressed', String(Number(button.dataset.community) === page.community));
  });
}

function showLegend() {
  const { group } = page;
  const named = group.communities.filter((entry) => entry.colour);
  const others = group.communities.length - named.length;
  const entry = (mark, text) => make('li', {}, make('span', { class: 'mark' }, mark), text);
  element('legend-body').replaceChildren(
    make('ul', {},
      group.genes.is_tf ? entry(swatch(null, 'tf'), 'transcription factor') : null,
      entry(swatch(null), group.genes.is_tf ? 'other gene' : 'gene'),
      entry(make('span', { class: 'sizes', 'aria-hidden': 'true' }, swatch(null, 'tiny'), swatch(null, 'large')), 'hub score'),
      entry(make('span', { class: 'line', 'aria-hidden': 'true' }), 'regulator → target'),
      group.signed || group.edges.sign ? entry(make('span', { class: 'line bar-end', 'aria-hidden': 'true' }), 'negative') : null),
    make('h4', {}, 'Community'),
    make('ul', { class: 'communities' }, named.map((item) => make('li', {}, make('button', {
      type: 'button', 'data-community': item.id, 'aria-pressed': 'false', title: `Show community ${item.id}: ${item.size} genes`,
      onclick: () => chooseCommunity(item.id),
    }, swatch(item.colour), make('b', {}, String(item.id)), make('span', { class: 'hubs' }, item.hubs.slice(0, 2).map((name) => shorten(name, 12)).join(', ')))))),
    ...(others > 0 ? [make('p', {}, swatch(null), `${others} smaller`)] : []),
    ...(group.communities.length ? [] : [make('p', {}, 'none')]),
  );
}

function showGroup(number) {
  const gene = page.group && page.gene !== null ? page.group.genes.name[page.gene] : null;
  const group = loadGroup(number);
  Object.assign(page, { group, community: null, gene: gene === null ? null : group.byName.get(gene) ?? null });
  document.querySelectorAll('#groups [role=tab]').forEach((tab, place) => {
    tab.setAttribute('aria-selected', String(place === number));
    tab.tabIndex = place === number ? 0 : -1;
  });
  const list = document.querySelector('#groups select');
  if (list) list.value = String(number);
  element('empty').hidden = group.n_edges > 0;
  element('genes').replaceChildren();
  element('export').disabled = group.n_drawn_edges === 0;
  setSlider(group);
  showLegend();
  drawGroup(group, { click: (clicked) => chooseGene(clicked, { focus: false }) });
  restyle(page);
  if (page.gene === null && page.view === 'gene') page.view = 'hubs';
  say(gene !== null && page.gene === null ? `${shorten(gene, 60)} has no edge listed in ${shorten(group.name, 60)}.` : '');
  showCounts();
  showPanel();
  element('provenance-body').replaceChildren(Object.keys(group.provenance).length ? provenanceView(group.provenance) : 'Nothing was recorded.');
}

function makeGroups() {
  const label = (entry) => `${entry.name}`;
  if (meta.groups.length > TABS_UP_TO) {
    const list = make('select', { id: 'group', onchange: (event) => showGroup(Number(event.target.value)) },
      meta.groups.map((entry, number) => make('option', { value: number }, shorten(label(entry), 60))));
    element('groups').append(make('label', { class: 'pick' }, 'Cell type ', list));
    return;
  }
  element('groups').setAttribute('role', 'tablist');
  element('groups').setAttribute('aria-label', 'Cell type');
  element('groups').append(...meta.groups.map((entry, number) => make('button', {
    type: 'button', role: 'tab', title: label(entry), onclick: () => showGroup(number),
  }, make('span', {}, label(entry)))));
}

// Arrow keys, Home and End move along a row of tabs.
function walkTabs(event) {
  const tabs = [...event.currentTarget.querySelectorAll('[role=tab]')];
  const here = tabs.indexOf(document.activeElement);
  const to = { ArrowRight: here + 1, ArrowLeft: here - 1, Home: 0, End: tabs.length - 1 }[event.key];
  if (here < 0 || to === undefined) return;
  event.preventDefault();
  const place = (to + tabs.length) % tabs.length;
  tabs[place].click();
  event.currentTarget.querySelectorAll('[role=tab]')[place].focus();
}

function search(event) {
  event.preventDefault();
  const { value } = element('gene');
  if (!value.trim()) return;
  const near = findGenes(page.group, value, 5);
  const gene = geneCalled(page.group, value) ?? (near.length === 1 ? near[0] : null);
  if (gene !== null) { chooseGene(gene); return; }
  const names = near.map((other) => shorten(page.group.genes.name[other], 30)).join(', ');
  say(`No gene called “${shorten(value.trim(), 40)}” is listed in ${shorten(page.group.name, 40)}.${names ? ` Did you mean ${names}?` : ''}`);
}

function suggest() {
  const found = findGenes(page.group, element('gene').value, 12);
  element('genes').replaceChildren(...found.map((gene) => make('option', { value: page.group.genes.name[gene] })));
}

function saveCsv() {
  const address = URL.createObjectURL(new Blob([edgesAsCsv(page.group)], { type: 'text/csv' }));
  const name = page.group.name.replace(/[^\p{L}\p{N}]+/gu, '_').replace(/^_|_$/g, '').slice(0, 60) || 'network';
  const link = make('a', { href: address, download: `${name}_edges.csv` });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
  say(`${plural(shownEdges(page.group), 'edge')} saved as ${name}_edges.csv`);
}

function start() {
  makeGroups();
  ['groups', 'views'].forEach((id) => element(id).addEventListener('keydown', walkTabs));
  element('search').addEventListener('submit', search);
  element('gene').addEventListener('input', suggest);
  let waiting = false;
  element('weight').addEventListener('input', () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; readSlider(); });
  });
  element('fit').addEventListener('click', () => fitDrawing(true));
  element('export').addEventListener('click', saveCsv);
  document.addEventListener('keydown', (event) => {
    const typing = event.target.closest('input, select, textarea');
    if (event.key === '/' && !typing) { event.preventDefault(); element('gene').focus(); }
    if (event.key === 'Escape' && !typing && (page.gene !== null || page.community !== null)) chooseGene(null);
  });
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => {
    drawings.forEach((state, number) => { if (number !== page.group.number) drawings.delete(number); });
    restyle(page, { force: true });
  });
  if (innerWidth < 900) element('legend').open = false;
  showGroup(0);
}

window.grnlab = {
  meta,
  showGroup,
  chooseGene: (name) => chooseGene(name === null ? null : geneCalled(page.group, name)),
  state: () => ({
    group: page.group.name, gene: page.gene === null ? null : page.group.genes.name[page.gene], community: page.community,
    view: page.view, threshold: page.group.threshold, shownEdges: shownEdges(page.group),
    nodes: drawing.nodes.length, edges: drawing.edges.length,
    hiddenEdges: drawing.edges.get({ filter: (edge) => edge.hidden }).length,
  }),
  pointOf: (name) => network.canvasToDOM(network.getPosition(page.group.byName.get(name))),
};
start();
