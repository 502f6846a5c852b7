// The tables beside the drawing: the cell types, a gene, the hubs, the communities, the edges.

const VIEWS = [['overview', 'Overview'], ['gene', 'Gene'], ['hubs', 'Hubs'], ['communities', 'Communities'], ['edges', 'Edges'], ['compare', 'Compare']];

function geneButton(group, gene, choose) {
  const name = group.genes.name[gene];
  return make('button', { type: 'button', class: 'link', title: name, onclick: () => choose(gene) }, name);
}

function geneCell(group, gene, choose) {
  const tf = group.genes.is_tf && group.genes.is_tf[gene];
  return make('span', { class: 'gene' }, swatch(group.colour[gene], tf ? 'tf' : ''), geneButton(group, gene, choose));
}

function communityCell(group, id) {
  if (id < 0) return '–';
  const entry = group.communities.find((other) => other.id === id);
  return make('span', { class: 'gene' }, swatch(entry ? entry.colour : null), String(id));
}

// Columns an edge table shows after its genes: the weight, then what the network knows besides.
function edgeColumns(group) {
  const { edges } = group;
  const columns = [{ title: 'weight', number: true, value: (edge) => edges.weight[edge] }];
  if (edges.sign) {
    const mark = (value) => (value === null ? '–' : value > 0 ? '+' : value < 0 ? '−' : '0');
    columns.push({ title: 'sign', number: true, value: (edge) => edges.sign[edge], cell: (edge) => mark(edges.sign[edge]) });
  }
  if (edges.z) columns.push({ title: 'z', number: true, value: (edge) => edges.z[edge] });
  if (edges.padj) columns.push({ title: 'padj', number: true, value: (edge) => edges.padj[edge] });
  return columns;
}

function partnerTable(group, edges, end, caption, choose) {
  const partner = group.edges[end];
  const columns = [
    { title: end === 'source' ? 'regulator' : 'target', value: (edge) => group.genes.name[partner[edge]], cell: (edge) => geneCell(group, partner[edge], choose) },
    ...edgeColumns(group),
  ];
  return makeTable(columns, edges, {
    column: 1, falling: true, caption,
  });
}

function geneFacts(group, gene) {
  const { genes } = group;
  const facts = [
    ['Transcription factor', genes.is_tf ? (genes.is_tf[gene] === null ? '–' : genes.is_tf[gene] ? 'yes' : 'no') : null],
    ['Community', communityCell(group, genes.community[gene])],
    ['Hub rank', `${genes.rank[gene].toLocaleString('en')} of ${group.n_genes.toLocaleString('en')}`],
    ['Targets', formatNumber(genes.out_degree[gene])],
    ['Regulators', formatNumber(genes.in_degree[gene])],
    ['Mean counts per 10k', genes.mean_counts ? formatNumber(genes.mean_counts[gene]) : null],
    ['Cells expressing it', genes.fraction_expressed && genes.fraction_expressed[gene] !== null
      ? `${formatNumber(Math.round(genes.fraction_expressed[gene] * 1000) / 10)} %` : null],
    ['Ensembl', genes.ensembl_id ? genes.ensembl_id[gene] : null],
  ].filter((fact) => fact[1] !== null);
  return make('dl', { class: 'facts' }, facts.map(([term, value]) => make('div', {}, make('dt', {}, term), make('dd', {}, value))));
}

function partnerSection(group, edges, total, end, choose) {
  const [title, role, none] = end === 'source'
    ? ['Regulators', 'incoming', 'No regulator in this network.'] : ['Targets', 'outgoing', 'No target in this network.'];
  const listed = edges.length < total ? `${edges.length.toLocaleString('en')} strongest of ${total.toLocaleString('en')}` : plural(total, 'gene');
  return make('section', { class: 'partners', id: title.toLowerCase() },
    make('h3', {}, make('span', { class: `arrow ${role}`, 'aria-hidden': 'true' }), title, make('small', {}, listed)),
    edges.length ? partnerTable(group, edges, end, title, choose) : make('p', { class: 'hint' }, none));
}

function geneView(group, gene, choose, focus) {
  if (gene === null) {
    return [make('p', { class: 'hint' }, 'Click a gene in the drawing, or search for one, to see its regulators and targets. A double click shows its neighbourhood alone.')];
  }
  const incoming = group.incoming[gene];
  const outgoing = group.outgoing[gene];
  return [
    make('h2', { class: 'name' }, swatch(group.colour[gene], group.genes.is_tf && group.genes.is_tf[gene] ? 'tf' : ''), group.genes.name[gene]),
    make('p', {}, make('button', { type: 'button', class: 'plain', id: 'focus', 'aria-pressed': String(focus.on), disabled: !(incoming.length + outgoing.length), onclick: focus.turn }, focus.on ? 'Back to the network' : 'Focus on its neighbourhood')),
    geneFacts(group, gene),
    partnerSection(group, incoming, group.genes.in_degree[gene], 'source', choose),
    partnerSection(group, outgoing, group.genes.out_degree[gene], 'target', choose),
  ];
}

// One row per cell type; the name opens it.
function overviewView(current, open) {
  const columns = [
    { title: 'cell type', value: (entry) => entry.name, cell: (entry) => make('button', { type: 'button', class: 'link whole', title: entry.name, 'aria-current': String(entry.number === current), onclick: () => open(entry.number) }, entry.name) },
    { title: 'genes', number: true, value: (entry) => entry.n_genes },
    { title: 'edges', number: true, value: (entry) => entry.n_edges },
    { title: 'comm.', number: true, hint: 'Communities', value: (entry) => entry.n_communities },
    { title: 'top hubs', value: (entry) => entry.hubs.join(' '), cell: (entry) => make('span', { class: 'tops', title: entry.hubs.join(', ') }, entry.hubs.map((name) => shorten(name, 14)).join(', ') || '–') },
  ];
  const rows = meta.groups.map((entry, number) => ({ ...entry, number }));
  return [makeTable(columns, rows, { column: -1, caption: 'Cell types', file: 'overview.csv', rowClass: (entry) => (entry.number === current ? 'current' : '') })];
}

function hubsView(group, choose) {
  const { genes } = group;
  const rows = genes.name.map((_, gene) => gene);
  const columns = [
    { title: '#', number: true, hint: 'Rank by hub score', value: (gene) => genes.rank[gene] },
    { title: 'gene', value: (gene) => genes.name[gene], cell: (gene) => geneCell(group, gene, choose) },
    { title: 'score', number: true, hint: 'Hub score: PageRank of the gene as a regulator', value: (gene) => genes.score[gene] },
    { title: 'targets', number: true, value: (gene) => genes.out_degree[gene] },
    { title: 'regulators', number: true, value: (gene) => genes.in_degree[gene] },
  ];
  if (genes.mean_counts) columns.push({ title: 'mean', number: true, hint: 'Mean counts per 10,000 in this group', value: (gene) => genes.mean_counts[gene] });
  return [makeTable(columns, rows, { column: 0, caption: 'Hubs', file: `${fileName(group.name)}_hubs.csv` })];
}

function communitiesView(group, choose, showCommunity) {
  if (!group.communities.length) return [make('p', { class: 'hint' }, 'No community: this network has no edge.')];
  const columns = [
    {
      title: 'community', short: true, value: (entry) => entry.id,
      cell: (entry) => make('span', { class: 'gene' }, swatch(entry.colour), make('button', { type: 'button', class: 'link', title: 'Show it in the drawing', onclick: () => showCommunity(entry.id) }, String(entry.id))),
    },
    { title: 'genes', number: true, value: (entry) => entry.size },
    {
      title: 'strongest hubs', value: (entry) => entry.hubs[0], export: (entry) => entry.hubs.join(' '),
      cell: (entry) => make('span', { class: 'list' }, entry.hubs.map((name) => (group.byName.has(name) ? geneButton(group, group.byName.get(name), choose) : name))),
    },
  ];
  return [
    makeTable(columns, group.communities, { column: 1, falling: true, caption: 'Communities', file: `${fileName(group.name)}_communities.csv` }),
    ...(group.enrichment.length ? [make('h3', {}, 'Enriched gene sets'), enrichmentTable(group)] : []),
  ];
}

function enrichmentTable(group) {
  const columns = [
    { title: 'of', short: true, hint: 'Community, or list of genes', value: (row) => row.group, cell: (row) => String(row.group) },
    { title: 'gene set', value: (row) => row.term, cell: (row) => make('span', { class: 'clip', title: [row.term, row.library, row.genes].filter(Boolean).join('\n') }, row.term) },
    { title: 'genes', number: true, hint: 'Shared genes of the genes of the set', value: (row) => row.overlap, cell: (row) => `${formatNumber(row.overlap)} / ${formatNumber(row.set_size)}` },
    { title: 'odds', number: true, hint: 'Odds ratio', value: (row) => row.odds_ratio },
    { title: 'padj', number: true, hint: 'Benjamini–Hochberg', value: (row) => row.padj },
  ];
  return makeTable(columns, group.enrichment, { column: 4, caption: 'Enrichment', file: `${fileName(group.name)}_enrichment.csv` });
}

function edgesView(group, choose) {
  const { source, target } = group.edges;
  const { name } = group.genes;
  const all = [...source.keys()];
  const columns = [
    { title: 'regulator', value: (edge) => name[source[edge]], cell: (edge) => geneCell(group, source[edge], choose) },
    { title: 'target', value: (edge) => name[target[edge]], cell: (edge) => geneCell(group, target[edge], choose) },
    ...edgeColumns(group),
  ];
  const holder = make('div');
  const note = make('p', { class: 'hint', role: 'status' });
  const input = make('input', { type: 'search', id: 'edge-filter', placeholder: 'Filter by regulator or target …', 'aria-label': 'Filter edges by gene', spellcheck: 'false', autocomplete: 'off' });
  function fill() {
    const wanted = input.value.trim().toLowerCase();
    const hit = wanted ? name.map((other) => other.toLowerCase().includes(wanted)) : null;
    const rows = hit ? all.filter((edge) => hit[source[edge]] || hit[target[edge]]) : all;
    note.textContent = `${plural(rows.length, 'edge')} match${rows.length === 1 ? 'es' : ''}; the table holds ${all.length < group.n_edges
      ? `${all.length.toLocaleString('en')} of ${group.n_edges.toLocaleString('en')}, the strongest of every gene` : `all ${all.length.toLocaleString('en')}`}.`;
    holder.replaceChildren(makeTable(columns, rows, { column: 2, falling: true, caption: 'Edges', file: `${fileName(group.name)}_edges.csv` }));
  }
  input.addEventListener('input', fill);
  fill();
  return [input, note, holder];
}

function provenanceView(value) {
  if (Array.isArray(value)) {
    if (!value.length) return '–';
    if (value.every((item) => typeof item !== 'object' || item === null)) return value.join(', ');
    return make('span', { class: 'nested' }, value.map((item) => (Array.isArray(item) ? `(${item.join(', ')}) ` : provenanceView(item))));
  }
  if (value !== null && typeof value === 'object') {
    return make('dl', { class: 'nested' }, Object.keys(value).map((key) => make('div', {}, make('dt', {}, key.replaceAll('_', ' ')), make('dd', {}, provenanceView(value[key])))));
  }
  return value === null ? '–' : String(value);
}
