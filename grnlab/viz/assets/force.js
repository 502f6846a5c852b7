// Small drawings made in the browser: the neighbourhood of a gene, and the genes two networks are compared by.

// Fruchterman and Reingold's forces between all pairs; for up to a few hundred genes. Starts from a sunflower, so the
// same input gives the same drawing.
function forceLayout(count, source, target, { rounds = 220, spacing = 90 } = {}) {
  const x = new Float32Array(count);
  const y = new Float32Array(count);
  const degree = new Float32Array(count);
  source.forEach((from, edge) => { degree[from] += 1; degree[target[edge]] += 1; });
  const order = Array.from(x.keys()).sort((a, b) => degree[b] - degree[a] || a - b);
  order.forEach((gene, place) => {
    const radius = spacing * 0.7 * Math.sqrt(place + 0.5);
    x[gene] = radius * Math.cos(place * 2.399963);
    y[gene] = radius * Math.sin(place * 2.399963);
  });
  const wanted = spacing * spacing;
  const dx = new Float32Array(count);
  const dy = new Float32Array(count);
  for (let round = 0; round < rounds; round += 1) {
    const heat = spacing * 0.9 * (1 - round / rounds);
    for (let i = 0; i < count; i += 1) { dx[i] = -x[i] * 2.6; dy[i] = -y[i] * 1.9; }
    for (let i = 0; i < count; i += 1) {
      for (let j = i + 1; j < count; j += 1) {
        const gapX = x[i] - x[j];
        const gapY = y[i] - y[j];
        const push = wanted / (gapX * gapX + gapY * gapY + 1);
        dx[i] += gapX * push; dy[i] += gapY * push; dx[j] -= gapX * push; dy[j] -= gapY * push;
      }
    }
    for (let edge = 0; edge < source.length; edge += 1) {
      const i = source[edge];
      const j = target[edge];
      const gapX = x[i] - x[j];
      const gapY = y[i] - y[j];
      const pull = Math.sqrt(gapX * gapX + gapY * gapY) / spacing;
      dx[i] -= gapX * pull; dy[i] -= gapY * pull; dx[j] += gapX * pull; dy[j] += gapY * pull;
    }
    for (let i = 0; i < count; i += 1) {
      const size = Math.hypot(dx[i], dy[i]) || 1;
      x[i] += (dx[i] / size) * Math.min(size, heat);
      y[i] += (dy[i] / size) * Math.min(size, heat);
    }
  }
  return { x, y };
}

// A gene in the middle, its regulators in arcs on the left, its targets in arcs on the right, the strongest nearest.
function fanLayout(regulators, targets) {
  const x = [0];
  const y = [0];
  [[regulators, -1], [targets, 1]].forEach(([count, side]) => {
    let placed = 0;
    for (let ring = 0; placed < count; ring += 1) {
      const radius = 260 + 190 * ring;
      const room = Math.min(count - placed, Math.max(1, Math.floor((2.2 * radius) / 62)));
      for (let i = 0; i < room; i += 1) {
        const angle = room === 1 ? 0 : -1.1 + (2.2 * i) / (room - 1);
        x.push(side * radius * Math.cos(angle));
        y.push(radius * Math.sin(angle));
      }
      placed += room;
    }
  });
  return { x: Float32Array.from(x), y: Float32Array.from(y) };
}
