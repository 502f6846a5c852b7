// Files the page saves: tables as CSV, the drawing as PNG and SVG. Nothing leaves the browser.

function fileName(...parts) {
  const plain = parts.map((part) => part.replace(/[^\p{L}\p{N}]+/gu, '_').replace(/^_+|_+$/g, '').slice(0, 60));
  return plain.filter(Boolean).join('_') || 'network';
}

function saveFile(content, type, name) {
  const blob = content instanceof Blob ? content : new Blob([content], { type });
  const address = URL.createObjectURL(blob);
  const link = make('a', { href: address, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
  say(`Saved ${name}`);
}

function csv(columns, rows) {
  const cell = (value) => {
    const text = value === null || value === undefined ? '' : String(value);
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return `${[columns, ...rows].map((row) => row.map(cell).join(',')).join('\n')}\n`;
}

function saveEdges(group, edges) {
  const { source, target, level, ...facts } = group.edges;
  const { name } = group.genes;
  const rows = Array.from(edges, (edge) => [name[source[edge]], name[target[edge]], ...Object.values(facts).map((column) => column[edge])]);
  saveFile(csv(['source', 'target', ...Object.keys(facts)], rows), 'text/csv', `${fileName(group.name)}_edges.csv`);
}

function savePicture(scenes, kind, name) {
  if (kind === 'svg') {
    saveFile(svgOf(scenes), 'image/svg+xml', `${name}.svg`);
    return;
  }
  const sharp = 2;
  const width = scenes.reduce((sum, scene) => sum + scene.width, 0);
  const canvas = make('canvas', { width: width * sharp, height: scenes[0].height * sharp });
  const context = canvas.getContext('2d');
  let left = 0;
  scenes.forEach((scene) => {
    context.setTransform(sharp, 0, 0, sharp, left * sharp, 0);
    context.save();
    context.beginPath();
    context.rect(0, 0, scene.width, scene.height);
    context.clip();
    context.fillStyle = colours().canvas;
    context.fillRect(0, 0, scene.width, scene.height);
    scene.paintWhole(context);
    context.restore();
    left += scene.width;
  });
  canvas.toBlob((blob) => saveFile(blob, 'image/png', `${name}.png`), 'image/png');
}

function svgOf(scenes) {
  const escape = (text) => text.replace(/[&<>"']/g, (sign) => `&#${sign.charCodeAt(0)};`).replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/g, '\ufffd');
  const round = (value) => Math.round(value * 10) / 10;
  const width = scenes.reduce((sum, scene) => sum + scene.width, 0);
  const { height } = scenes[0];
  const parts = [`<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" font-family="Helvetica, Arial, sans-serif">`,
    `<rect width="${width}" height="${height}" fill="${colours().canvas}"/>`];
  let left = 0;
  scenes.forEach((scene) => {
    parts.push(`<g transform="translate(${left} 0)">`);
    scene.shapes().forEach((shape) => {
      const [kind, ...rest] = shape;
      if (kind === 'line') {
        const [x1, y1, x2, y2, colour, thick] = rest;
        parts.push(`<line x1="${round(x1)}" y1="${round(y1)}" x2="${round(x2)}" y2="${round(y2)}" stroke="${colour}" stroke-width="${round(thick)}"/>`);
      } else if (kind === 'head') {
        const [points, colour] = rest;
        parts.push(`<polygon points="${points.map(round).join(' ')}" fill="${colour}"/>`);
      } else if (kind === 'node') {
        const [x, y, radius, diamond, colour, opacity] = rest;
        const look = `fill="${colour}" fill-opacity="${opacity}" stroke="${colours().canvas}" stroke-width="0.8"`;
        parts.push(diamond
          ? `<polygon points="${[x - radius, y, x, y - radius, x + radius, y, x, y + radius].map(round).join(' ')}" ${look}/>`
          : `<circle cx="${round(x)}" cy="${round(y)}" r="${round(radius)}" ${look}/>`);
      } else {
        const [x, y, text, bold] = rest;
        parts.push(`<text x="${round(x)}" y="${round(y)}" font-size="12" text-anchor="middle"${bold ? ' font-weight="bold"' : ''} fill="${colours().text}" stroke="${colours().canvas}" stroke-width="3" paint-order="stroke">${escape(text)}</text>`);
      }
    });
    parts.push('</g>');
    left += scene.width;
  });
  return [...parts, '</svg>\n'].join('\n');
}
