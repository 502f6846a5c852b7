// What surrounds the drawing: cell types, tables, legend, buttons and keys.

function showPanel() {
  const { group, gene, view } = page;
  const views = VIEWS.filter(([key]) => (key === 'overview' ? meta.groups.length > 1 : key === 'compare' ? page.other !== null : true));
  element('views').replaceChildren(...views.map(([key, title]) => make('button', {
    type: 'button', role: 'tab', id: `tab-${key}`, 'aria-controls': 'view', 'aria-selected': String(key === view),
    tabindex: key === view ? 0 : -1, onclick: () => { page.view = key; showPanel(); writeLink(page); },
  }, title)));
  const choose = (other) => chooseGene(other);
  const content = {
    overview: () => overviewView(group.number, (number) => showGroup(number)),
    gene: () => geneView(group, gene, choose, { on: page.focus, turn: () => turnFocus(!page.focus) }),
    hubs: () => hubsView(group, choose),
    communities: () => communitiesView(group, choose, chooseCommunity),
    edges: () => edgesView(group, choose),
    compare: () => compareView(comparison(), (name) => chooseGene(geneCalled(group, name))),
  }[view]();
  element('view').setAttribute('aria-labelledby', `tab-${view}`);
  element('view').replaceChildren(...content);
  element('view').scrollTop = 0;
}

function markLegend() {
  document.querySelectorAll('#legend-body button').forEach((button) => {
    button.setAttribute('aria-pressed', String(Number(button.dataset.community) === page.community));
  });
}

function showLegend() {
  const { group } = page;
  const entry = (mark, text) => make('li', {}, make('span', { class: 'mark' }, mark), text);
  const line = (kind) => make('span', { class: `line ${kind}`, 'aria-hidden': 'true' });
  const pair = comparison();
  const parts = [make('ul', {},
    group.genes.is_tf ? entry(swatch(null, 'tf'), 'transcription factor') : null,
    entry(swatch(null), group.genes.is_tf ? 'other gene' : 'gene'),
    entry(make('span', { class: 'sizes', 'aria-hidden': 'true' }, swatch(null, 'tiny'), swatch(null, 'large')), 'hub score'),
    ...(pair ? [entry(line('shared'), 'in both'), entry(line('left'), 'only left'), entry(line('right'), 'only right')]
      : page.focus ? [entry(line('incoming'), 'regulates it'), entry(line('outgoing'), 'its target')] : [entry(line(''), 'regulator → target')]),
    group.signed ? entry(line('bar-end'), 'negative') : null)];
  if (page.colouring !== 'community' && !pair && group.genes[page.colouring]) {
    parts.push(make('h4', {}, COLOURINGS.find(([key]) => key === page.colouring)[1]), legendOfNumbers(group, page.colouring));
  } else {
    const named = group.communities.filter((item) => item.colour);
    const others = group.communities.length - named.length;
    parts.push(make('h4', {}, pair ? 'Community of the left' : 'Community'));
    if (!pair) {
      parts.push(make('ul', { class: 'communities' }, named.map((item) => make('li', {}, make('button', {
        type: 'button', 'data-community': item.id, 'aria-pressed': 'false', title: `Show community ${item.id}: ${item.size} genes`, onclick: () => chooseCommunity(item.id),
      }, swatch(item.colour), make('b', {}, String(item.id)), make('span', { class: 'hubs' }, item.hubs.slice(0, 2).map((name) => shorten(name, 12)).join(', ')))))));
      if (others > 0) parts.push(make('p', {}, swatch(null), `${others} smaller`));
      if (!group.communities.length) parts.push(make('p', {}, 'none'));
    }
  }
  element('legend-body').replaceChildren(...parts);
  markLegend();
}

function markGroups(number) {
  document.querySelectorAll('#groups [role=tab]').forEach((tab, place) => {
    tab.setAttribute('aria-selected', String(place === number));
    tab.tabIndex = place === number ? 0 : -1;
  });
  const list = element('group');
  if (list) list.value = String(number);
  element('versus-pick').hidden = meta.groups.length < 2;
  const rest = meta.groups.map((entry, at) => [entry, at]).filter(([, at]) => at !== number);
  element('versus').replaceChildren(make('option', { value: '' }, '–'), ...rest.map(([entry, at]) => make('option', { value: at }, shorten(entry.name, 40))));
  element('versus').value = page.other === null ? '' : String(page.other);
}

function makeGroups() {
  const holder = element('groups');
  if (meta.groups.length > TABS_UP_TO) {
    holder.append(make('label', { class: 'pick' }, 'Cell type ', make('select', { id: 'group', onchange: (event) => showGroup(Number(event.target.value)) },
      meta.groups.map((entry, number) => make('option', { value: number }, shorten(entry.name, 60))))));
    return;
  }
  if (meta.groups.length < 2) { holder.hidden = true; return; }
  holder.setAttribute('role', 'tablist');
  holder.setAttribute('aria-label', 'Cell type');
  holder.append(...meta.groups.map((entry, number) => make('button', { type: 'button', role: 'tab', title: entry.name, onclick: () => showGroup(number) }, make('span', {}, entry.name))));
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

function save(kind) {
  const pair = comparison();
  const name = fileName(page.group.name, pair ? pair.right.name : '', page.focus ? page.group.genes.name[page.gene] : '');
  if (kind !== 'csv') savePicture(pair ? scenes : [scenes[0]], kind, name);
  else if (pair) saveComparison(pair);
  else if (page.focus) saveEdges(page.group, Array.from(scenes[0].picture.edges.original).sort((a, b) => a - b));
  else saveEdges(page.group, page.group.atLevel[page.level].subarray(0, shownCount()));
}

function tooltip(scene, node) {
  const { picture } = scene;
  const group = comparison() && scene === scenes[1] ? comparison().right : page.group;
  const gene = group.byName.get(picture.label[node]);
  const lines = [shorten(picture.label[node], 60)];
  if (gene === undefined) return `${lines[0]}\nnot in ${shorten(group.name, 40)}`;
  const { genes } = group;
  if (genes.is_tf && genes.is_tf[gene]) lines.push('transcription factor');
  lines.push(`hub rank ${genes.rank[gene].toLocaleString('en')}`, `${plural(genes.out_degree[gene], 'target')}, ${plural(genes.in_degree[gene], 'regulator')}`);
  return lines.join('\n');
}

function makeScenes() {
  ['canvas', 'canvas-right'].forEach((id) => {
    const scene = new Scene(element(id));
    const geneOf = (node) => (node === null ? null : page.group.byName.get(scene.picture.label[node]) ?? null);
    scene.onView = (view) => { if (page.other !== null) scenes.forEach((other) => { if (other !== scene && other.picture) other.look(view, { tell: false }); }); };
    listen(scene, {
      click: (node) => chooseGene(geneOf(node), { follow: false }),
      open: (node) => { if (node !== null && page.other === null && !page.focus) turnFocus(true); },
      tip: (node) => tooltip(scene, node),
      placed: (node) => {
        if (page.other !== null || page.focus) return;
        const [x, y] = placesOf(page.group, page.level);
        [x[scene.picture.ids[node]], y[scene.picture.ids[node]]] = [scene.picture.x[node], scene.picture.y[node]];
      },
    });
    scenes.push(scene);
  });
  const legend = element('legend');
  scenes[0].inset = () => (legend.open && scenes[0].width > 620 ? legend.offsetWidth + 12 : 0);
}

function once(action) { // at most once per frame
  let waiting = false;
  return () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; action(); });
  };
}

function follow(link) {
  const asked = readLink(link);
  setTheme(asked.theme);
  page.view = asked.view || (meta.groups.length > 1 ? 'overview' : 'hubs');
  Object.assign(page, { gene: null, other: null, focus: false });
  const group = loadGroup(asked.type);
  const gene = asked.gene === null ? null : group.byName.get(asked.gene) ?? null;
  showGroup(asked.type, {
    gene, threshold: asked.threshold, level: asked.level, colouring: asked.colouring, focus: asked.focus && gene !== null,
    community: group.communities.some((entry) => entry.id === asked.community) ? asked.community : null, other: asked.other,
  });
}

function start() {
  makeGroups();
  element('colouring').append(...COLOURINGS.filter(([key]) => key !== 'mean_counts' || loadGroup(0).genes.mean_counts)
    .map(([key, title]) => make('option', { value: key }, title)));
  if (innerWidth < 900) element('legend').open = false;
  makeScenes();
  ['groups', 'views'].forEach((id) => element(id).addEventListener('keydown', walkTabs));
  makeSearch({ group: () => page.group, choose: (gene) => chooseGene(gene) });
  element('weight').addEventListener('input', once(readSlider));
  element('detail').addEventListener('change', (event) => setLevel(Number(event.target.value)));
  element('colouring').addEventListener('change', (event) => { page.colouring = event.target.value; refresh({ fit: false }); });
  element('versus').addEventListener('change', (event) => compareWith(event.target.value === '' ? page.group.number : Number(event.target.value)));
  element('fit').addEventListener('click', () => scenes[0].fit());
  element('clear').addEventListener('click', stepBack);
  element('save').addEventListener('change', (event) => { save(event.target.value); event.target.value = ''; });
  element('theme').addEventListener('click', () => { setTheme(isDark() ? 'light' : 'dark'); writeLink(page); });
  element('copy').addEventListener('click', () => navigator.clipboard.writeText(location.href).then(() => say('Link copied.'), () => say('Copy the link from the address bar.')));
  document.addEventListener('keydown', (event) => {
    const typing = event.target.closest('input, select, textarea');
    if (event.key === '/' && !typing) { event.preventDefault(); element('gene').focus(); element('gene').select(); }
    if (event.key === 'Escape' && !event.defaultPrevented) { if (typing) typing.blur(); else stepBack(); }
  });
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => setTheme(document.documentElement.dataset.theme));
  addEventListener('hashchange', () => { if (location.hash.replace(/^#/, '') !== written) { written = location.hash.replace(/^#/, ''); follow(written); } });
  follow(written);
}

start();
