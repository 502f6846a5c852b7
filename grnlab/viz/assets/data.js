// Data of the page: groups are parsed when first shown, and genes are numbers everywhere, so that a gene
// may be called anything ("__proto__" included).

const element = (id) => document.getElementById(id);
const meta = JSON.parse(element('grnlab-meta').textContent);
const loaded = new Map();

function loadGroup(number) {
  if (!loaded.has(number)) {
    const group = JSON.parse(element(`grnlab-group-${number}`).textContent);
    loaded.set(number, indexed(group, number));
  }
  return loaded.get(number);
}

function indexed(group, number) {
  const { source, target, weight } = group.edges;
  const count = group.genes.name.length;
  group.number = number;
  group.strength = weight.map(Math.abs);
  group.signed = weight.some((value) => value < 0);
  group.byName = new Map(group.genes.name.map((name, gene) => [name, gene]));
  group.outgoing = Array.from({ length: count }, () => []);
  group.incoming = Array.from({ length: count }, () => []);
  for (let edge = 0; edge < source.length; edge += 1) {
    group.outgoing[source[edge]].push(edge);
    group.incoming[target[edge]].push(edge);
  }
  const colour = new Map(group.communities.map((entry, place) => [entry.id, meta.palette[place]]));
  group.colour = group.genes.community.map((id) => colour.get(id) || null);
  group.communities.forEach((entry) => { entry.colour = colour.get(entry.id) || null; });
  group.threshold = group.n_drawn_edges ? group.strength[group.n_drawn_edges - 1] : 0;
  return group;
}

// Drawn edges come first and by falling strength, so the edges shown are always the first few.
function shownEdges(group) {
  let low = 0;
  let high = group.n_drawn_edges;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (group.strength[middle] >= group.threshold) low = middle + 1; else high = middle;
  }
  return low;
}

function findGenes(group, text, limit) {
  const wanted = text.trim().toLowerCase();
  if (!wanted) return [];
  const found = [];
  group.genes.name.forEach((name, gene) => {
    const place = name.toLowerCase().indexOf(wanted);
    if (place >= 0) found.push([place === 0 ? 0 : 1, group.genes.rank[gene], gene]);
  });
  found.sort((a, b) => a[0] - b[0] || a[1] - b[1]);
  return found.slice(0, limit).map((entry) => entry[2]);
}

function geneCalled(group, text) {
  const name = text.trim();
  if (group.byName.has(name)) return group.byName.get(name);
  const lower = name.toLowerCase();
  const gene = group.genes.name.findIndex((other) => other.toLowerCase() === lower);
  return gene >= 0 ? gene : null;
}

function formatNumber(value) {
  if (value === null || value === undefined) return '–';
  if (Number.isInteger(value)) return value.toLocaleString('en');
  const size = Math.abs(value);
  if (size !== 0 && (size < 0.001 || size >= 100000)) return value.toExponential(2);
  return String(Number(value.toPrecision(3)));
}

function plural(count, word) {
  return `${count.toLocaleString('en')} ${word}${count === 1 ? '' : 's'}`;
}

function shorten(name, length) {
  const letters = Array.from(name);
  return letters.length > length ? `${letters.slice(0, length - 1).join('')}…` : name;
}

function edgesAsCsv(group) {
  const columns = ['source', 'target', ...Object.keys(group.edges).filter((key) => key !== 'source' && key !== 'target')];
  const cell = (value) => {
    const text = value === null || value === undefined ? '' : String(value);
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const lines = [columns.join(',')];
  for (let edge = 0; edge < shownEdges(group); edge += 1) {
    lines.push(columns.map((key) => {
      const value = group.edges[key][edge];
      return cell(key === 'source' || key === 'target' ? group.genes.name[value] : value);
    }).join(','));
  }
  return `${lines.join('\n')}\n`;
}
