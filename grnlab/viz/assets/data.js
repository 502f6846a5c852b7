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
  const { source, target, weight, level } = group.edges;
  const count = group.genes.name.length;
  group.number = number;
  group.strength = Float64Array.from(weight, Math.abs);
  group.byName = new Map(group.genes.name.map((name, gene) => [name, gene]));
  group.outgoing = Array.from({ length: count }, () => []);
  group.incoming = Array.from({ length: count }, () => []);
  for (let edge = 0; edge < source.length; edge += 1) {
    group.outgoing[source[edge]].push(edge);
    group.incoming[target[edge]].push(edge);
  }
  const signs = group.edges.sign || weight;
  group.negative = Uint8Array.from(signs, (value) => (value < 0 ? 1 : 0));
  group.signed = group.negative.includes(1);
  const place = new Map(group.communities.map((entry, at) => [entry.id, at]));
  group.communities.forEach((entry, at) => { entry.colour = meta.palette[at] || null; });
  group.colour = group.genes.community.map((id) => meta.palette[place.get(id)] || null);
  // Edges of each level by falling strength: those above a weight are always the first few.
  group.atLevel = group.levels.map((_, last) => Uint32Array.from(source.keys()).filter((edge) => level[edge] <= last));
  group.drawn = group.levels.map((_, last) => group.genes.level.reduce((sum, first) => sum + (first <= last), 0));
  return group;
}

// How many edges of a level are at least so strong.
function countAbove(group, level, threshold) {
  const edges = group.atLevel[level];
  let low = 0;
  let high = edges.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (group.strength[edges[middle]] >= threshold) low = middle + 1; else high = middle;
  }
  return low;
}

function findGenes(group, text, limit) {
  const wanted = text.trim().toLowerCase();
  if (!wanted) return [];
  const found = [];
  group.genes.name.forEach((name, gene) => {
    const place = name.toLowerCase().indexOf(wanted);
    if (place >= 0) found.push([name.length === wanted.length ? 0 : place === 0 ? 1 : 2, group.genes.rank[gene], gene]);
  });
  found.sort((a, b) => a[0] - b[0] || a[1] - b[1]);
  return found.slice(0, limit).map((entry) => entry[2]);
}

function geneCalled(group, text) {
  const name = text.trim();
  for (const exact of [text, name]) if (group.byName.has(exact)) return group.byName.get(exact);
  const lower = name.toLowerCase();
  const gene = group.genes.name.findIndex((other) => other.toLowerCase() === lower);
  return gene >= 0 ? gene : null;
}

function formatNumber(value) {
  if (value === null || value === undefined) return '–';
  if (typeof value === 'string') return value;
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
