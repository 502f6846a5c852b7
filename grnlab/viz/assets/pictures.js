// Pictures for a scene: a level of detail of a network, the neighbourhood of a gene, two networks on the same places.

const FOCUS_PARTNERS = 30; // regulators, and targets, of the gene in focus
const COMPARED_HUBS = 10;
const COMPARED_TARGETS = 7;

// Sort edges by style, which paints faint ones first and needs one stroke per batch.
function edgesOf(count, source, target, style, negative, original) {
  const order = Uint32Array.from({ length: count }, (_, place) => place).sort((a, b) => style[a] - style[b] || b - a);
  return {
    source: Uint32Array.from(order, (edge) => source[edge]),
    target: Uint32Array.from(order, (edge) => target[edge]),
    style: Uint16Array.from(order, (edge) => style[edge]),
    bar: Uint8Array.from(order, (edge) => negative[edge]),
    original: Uint32Array.from(order, (edge) => original[edge]),
  };
}

function nodesOf(group, genes, fill, places, radius = null) {
  const { genes: facts } = group;
  return {
    ids: Uint32Array.from(genes),
    ...places,
    radius: radius || Float32Array.from(genes, (gene) => facts.radius[gene]),
    diamond: Uint8Array.from(genes, (gene) => (facts.is_tf && facts.is_tf[gene] ? 1 : 0)),
    fill: genes.map((gene) => fill[gene]),
    label: genes.map((gene) => facts.name[gene]),
    priority: Int32Array.from(genes, (gene) => facts.rank[gene]),
  };
}

function placesOf(group, level) {
  const { genes } = group;
  return level === 0 ? [genes.first_x, genes.first_y] : [genes.x, genes.y];
}

function levelPicture(group, { level, count, colouring }) {
  const fill = geneColours(group, colouring);
  const [placeX, placeY] = placesOf(group, level);
  const genes = [...group.genes.level.keys()].filter((gene) => group.genes.level[gene] <= level);
  const local = new Int32Array(group.genes.name.length).fill(-1);
  genes.forEach((gene, node) => { local[gene] = node; });
  const shown = group.atLevel[level].subarray(0, count);

  // styles: three strengths of every colour, all faint ones before the strong ones
  const byCommunity = colouring === 'community';
  const hues = byCommunity ? [null, ...meta.palette] : [null];
  const hueOf = new Map(hues.map((hue, place) => [hue, place]));
  const thin = shown.length > 5000 ? 0.45 : shown.length > 1500 ? 0.7 : 1;
  const alphas = shown.length <= 400 ? [0.4, 0.55, 0.8] : [0.2, 0.34, 0.62];
  const styles = alphas.flatMap((alpha, bin) => hues.map((hue) => ({
    colour: rgba(hue || colours().edge, alpha * (0.4 + 0.6 * thin)), width: [0.7, 1, 1.6][bin] * (0.5 + 0.5 * thin),
  })));
  const style = Uint16Array.from(shown, (edge, place) => {
    const share = place / shown.length;
    const bin = share < 0.15 ? 2 : share < 0.5 ? 1 : 0;
    return bin * hues.length + (byCommunity ? hueOf.get(group.colour[group.edges.source[edge]]) : 0);
  });
  return {
    ...nodesOf(group, genes, fill, {
      x: Float32Array.from(genes, (gene) => placeX[gene]), y: Float32Array.from(genes, (gene) => placeY[gene]),
    }),
    edges: edgesOf(shown.length, Uint32Array.from(shown, (edge) => local[group.edges.source[edge]]),
      Uint32Array.from(shown, (edge) => local[group.edges.target[edge]]), style, Uint8Array.from(shown, (edge) => group.negative[edge]), shown),
    styles,
    arrows: shown.length <= 1200,
  };
}

// A gene, its strongest regulators and targets that the slider lets through, and nothing else.
function focusPicture(group, gene, { threshold, colouring }) {
  const strong = (edges) => edges.filter((edge) => group.strength[edge] >= threshold).slice(0, FOCUS_PARTNERS);
  const incoming = strong(group.incoming[gene]);
  const outgoing = strong(group.outgoing[gene]);
  const regulators = incoming.map((edge) => group.edges.source[edge]);
  const both = new Set(regulators);
  const targets = outgoing.map((edge) => group.edges.target[edge]).filter((other) => !both.has(other));
  const genes = [gene, ...regulators, ...targets];
  const local = new Map(genes.map((other, node) => [other, node]));
  const shown = [...incoming, ...outgoing];
  const strongest = Math.max(...shown.map((edge) => group.strength[edge]), 1e-300);
  const styles = [colours().incoming, colours().outgoing].flatMap((colour) => [0.9, 1.6, 2.6].map((width, bin) => ({ colour: rgba(colour, 0.4 + 0.2 * bin), width })));
  const style = shown.map((edge, place) => (place < incoming.length ? 0 : 3) + Math.min(2, Math.floor((group.strength[edge] / strongest) * 3)));
  const radius = Float32Array.from(genes, (other, node) => (node === 0 ? 34 : 13 + group.genes.radius[other] / 5));
  return {
    ...nodesOf(group, genes, geneColours(group, colouring), fanLayout(regulators.length, targets.length), radius),
    priority: Int32Array.from(genes.keys()),
    edges: edgesOf(shown.length, shown.map((edge) => local.get(group.edges.source[edge])), shown.map((edge) => local.get(group.edges.target[edge])),
      style, shown.map((edge) => group.negative[edge]), shown),
    styles,
    arrows: true,
  };
}

// Genes worth comparing: hubs of either network, those whose score differs most, and their strongest targets.
function comparedEdges(comparison, asked) {
  const { left, right, hubs } = comparison;
  const byRank = (side) => [...hubs].filter((hub) => hub[side] !== null).sort((a, b) => a[`rank_${side}`] - b[`rank_${side}`]).slice(0, COMPARED_HUBS);
  const chosen = new Set([...byRank('left'), ...byRank('right'), ...hubs.slice(0, COMPARED_HUBS)].map((hub) => hub.name));
  if (asked !== null) chosen.add(asked);
  const pick = (group) => [...chosen].filter((name) => group.byName.has(name)).flatMap((name) => {
    const gene = group.byName.get(name);
    const regulators = name === asked ? group.incoming[gene].slice(0, COMPARED_TARGETS) : [];
    return [...group.outgoing[gene].slice(0, COMPARED_TARGETS), ...regulators];
  });
  return { left: new Set(pick(left)), right: new Set(pick(right)) };
}

function comparePictures(comparison, asked) {
  const { left, right, statusLeft, statusRight } = comparison;
  const picked = comparedEdges(comparison, asked);
  // an edge picked in one network is shown in the other too, if it is there
  picked.right.forEach((edge) => { if (statusRight[edge] >= 0) picked.left.add(statusRight[edge]); });
  picked.left.forEach((edge) => { if (statusLeft[edge] >= 0) picked.right.add(statusLeft[edge]); });
  const names = new Map();
  const number = (name) => { if (!names.has(name)) names.set(name, names.size); return names.get(name); };
  const ends = (group, edges) => [...edges].map((edge) => [number(group.genes.name[group.edges.source[edge]]), number(group.genes.name[group.edges.target[edge]])]);
  const all = [ends(left, picked.left), ends(right, picked.right)];
  const unique = new Map(all.flat().map((pair) => [pair.join(), pair]));
  const pairs = [...unique.values()];
  const places = forceLayout(names.size, pairs.map((pair) => pair[0]), pairs.map((pair) => pair[1]));
  const labels = [...names.keys()];
  const side = (group, edges, local, status, alone) => {
    const list = [...edges].sort((a, b) => a - b);
    const ends = all[local];
    const at = new Map([...edges].map((edge, place) => [edge, ends[place]]));
    const gene = labels.map((name) => group.byName.get(name) ?? -1);
    const fact = (column, fallback) => gene.map((one) => (one < 0 || !group.genes[column] ? fallback : group.genes[column][one]));
    return {
      ids: Uint32Array.from(labels.keys()),
      x: Float32Array.from(places.x), y: Float32Array.from(places.y),
      radius: Float32Array.from(fact('radius', 8)), diamond: Uint8Array.from(fact('is_tf', 0), (value) => (value ? 1 : 0)),
      fill: labels.map((name, node) => (gene[node] < 0 ? rgba(colours().edge, 0.3) : left.colour[left.byName.get(name)] ?? null)), // the left network's in both
      label: labels, priority: Int32Array.from(fact('rank', 1e9)),
      edges: edgesOf(list.length, list.map((edge) => at.get(edge)[0]), list.map((edge) => at.get(edge)[1]),
        list.map((edge) => (status[edge] >= 0 ? 1 : status[edge] === ALONE ? 2 : 0)), list.map((edge) => group.negative[edge]), list),
      styles: [{ colour: rgba(alone, 0.35), width: 0.6 }, { colour: rgba(colours().shared, 0.55), width: 1.3 }, { colour: rgba(alone, 0.75), width: 1.3 }],
      arrows: true,
    };
  };
  return [side(left, picked.left, 0, statusLeft, colours().left), side(right, picked.right, 1, statusRight, colours().right)];
}
