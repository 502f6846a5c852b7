// Two networks against each other: which edges they share, and which genes are hubs of one more than of the other.

const comparisons = new Map();

function compareGroups(first, second) {
  const key = `${first} ${second}`;
  if (!comparisons.has(key)) comparisons.set(key, compared(loadGroup(first), loadGroup(second)));
  return comparisons.get(key);
}

// statusLeft[edge]: the same edge of the other network; ALONE when it has none, APART when it lacks one of the genes.
const [ALONE, APART] = [-1, -2];

function compared(left, right) {
  const toRight = left.genes.name.map((name) => right.byName.get(name) ?? -1);
  const size = right.genes.name.length;
  const inRight = new Map();
  for (let edge = 0; edge < right.edges.source.length; edge += 1) inRight.set(right.edges.source[edge] * size + right.edges.target[edge], edge);
  const statusLeft = new Int32Array(left.edges.source.length).fill(ALONE);
  const toLeft = right.genes.name.map((name) => left.byName.has(name));
  const statusRight = Int32Array.from(right.edges.source, (source, edge) => (toLeft[source] && toLeft[right.edges.target[edge]] ? ALONE : APART));
  for (let edge = 0; edge < statusLeft.length; edge += 1) {
    const source = toRight[left.edges.source[edge]];
    const target = toRight[left.edges.target[edge]];
    if (source < 0 || target < 0) statusLeft[edge] = APART;
    const other = statusLeft[edge] === APART ? undefined : inRight.get(source * size + target);
    if (other !== undefined) { statusLeft[edge] = other; statusRight[other] = edge; }
  }
  const count = (status, kind) => status.reduce((sum, other) => sum + (other === kind), 0);
  const apart = count(statusLeft, APART) + count(statusRight, APART);
  const [onlyLeft, onlyRight] = [count(statusLeft, ALONE), count(statusRight, ALONE)];
  const shared = statusLeft.length - onlyLeft - count(statusLeft, APART);
  return {
    left, right, statusLeft, statusRight, shared, onlyLeft, onlyRight, apart, hubs: differentialHubs(left, right),
  };
}

// Scores and ranks are those of each network's own hub table; genes of both networks, the largest difference first.
function differentialHubs(left, right) {
  const rows = [];
  left.genes.name.forEach((name, gene) => {
    const other = right.byName.get(name);
    if (other === undefined) return;
    const [a, b] = [left.genes.score[gene], right.genes.score[other]];
    rows.push({ name, left: a, right: b, difference: a - b, rank_left: left.genes.rank[gene], rank_right: right.genes.rank[other] });
  });
  return rows.sort((a, b) => Math.abs(b.difference) - Math.abs(a.difference) || (a.name < b.name ? -1 : 1));
}

function saveComparison(comparison) {
  const { left, right, statusLeft, statusRight } = comparison;
  const rows = [];
  const row = (group, edge) => [group.genes.name[group.edges.source[edge]], group.genes.name[group.edges.target[edge]]];
  statusLeft.forEach((other, edge) => rows.push([...row(left, edge), other >= 0 ? 'shared' : other === ALONE ? 'only left' : 'left, gene not in right', left.edges.weight[edge], other >= 0 ? right.edges.weight[other] : null]));
  statusRight.forEach((other, edge) => { if (other < 0) rows.push([...row(right, edge), other === ALONE ? 'only right' : 'right, gene not in left', null, right.edges.weight[edge]]); });
  saveFile(csv(['source', 'target', 'in', `weight ${left.name}`, `weight ${right.name}`], rows), 'text/csv', `${fileName(left.name, right.name)}_edges.csv`);
}

function compareView(comparison, choose) {
  const { left, right, shared, onlyLeft, onlyRight, apart, hubs } = comparison;
  const union = shared + onlyLeft + onlyRight;
  const cut = [left, right].filter((group) => group.edges.source.length < group.n_edges);
  const mark = (kind, text, count) => make('div', {}, make('dt', {}, make('span', { class: `line ${kind}`, 'aria-hidden': 'true' }), ` ${text}`), make('dd', {}, count.toLocaleString('en')));
  const signed = (value) => (value > 0 ? `+${formatNumber(value)}` : formatNumber(value).replace('-', '−'));
  const columns = [
    { title: 'gene', value: (row) => row.name, cell: (row) => make('button', { type: 'button', class: 'link', title: row.name, onclick: () => choose(row.name) }, row.name) },
    { title: 'left', number: true, hint: `Hub score in ${left.name}`, value: (row) => row.left },
    { title: 'right', number: true, hint: `Hub score in ${right.name}`, value: (row) => row.right },
    { title: 'diff.', number: true, hint: 'Left minus right', value: (row) => Math.abs(row.difference), cell: (row) => signed(row.difference), export: (row) => row.difference },
    { title: 'ranks', number: true, hint: `Rank in ${left.name} and in ${right.name}; sorted by the change`, value: (row) => Math.abs(row.rank_left - row.rank_right), cell: (row) => `${row.rank_left} → ${row.rank_right}`, export: (row) => `${row.rank_left} → ${row.rank_right}` },
  ];
  return [
    make('p', { class: 'versus' }, make('b', { class: 'left' }, left.name), ' against ', make('b', { class: 'right' }, right.name)),
    make('dl', { class: 'facts counts', id: 'compare-counts' }, mark('shared', 'shared edges', shared), mark('left', 'only left', onlyLeft), mark('right', 'only right', onlyRight),
      make('div', {}, make('dt', {}, 'Jaccard index'), make('dd', {}, union ? formatNumber(shared / union) : '–'))),
    ...(apart ? [make('p', { class: 'hint', id: 'apart' }, `${plural(apart, 'further edge')} ${apart === 1 ? 'has' : 'have'} a gene that the other network does not know; drawn thin, not counted.`)] : []),
    ...(cut.length ? [make('p', { class: 'hint' }, 'Counted among the edges this page holds: a network is too large to be held whole.')] : []),
    make('p', {}, make('button', { type: 'button', class: 'plain', onclick: () => saveComparison(comparison) }, 'All edges as CSV')),
    make('h3', {}, 'Differential hubs'),
    make('p', { class: 'hint' }, 'Scores and ranks within each whole network.'),
    makeTable(columns, hubs, { column: 3, falling: true, caption: 'Differential hubs', file: `${fileName(left.name, right.name)}_hubs.csv` }),
  ];
}
