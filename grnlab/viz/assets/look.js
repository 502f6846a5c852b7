// Colours: of the theme, of communities, and of numbers.

const SCALE = ['#414487', '#2a788e', '#22a884', '#7ad151', '#fde725']; // viridis without its darkest end
const COLOURINGS = [
  ['community', 'Community'], ['score', 'Hub score (PageRank)'], ['eigenvector', 'Eigenvector centrality'],
  ['out_degree', 'Number of targets'], ['in_degree', 'Number of regulators'], ['mean_counts', 'Mean counts'],
];
let theme = null;

function colours() {
  if (theme) return theme;
  const style = getComputedStyle(document.documentElement);
  const read = (name) => style.getPropertyValue(name).trim();
  theme = {
    text: read('--text'), canvas: read('--canvas'), other: read('--other-node'), rim: read('--rim'), edge: read('--edge'),
    incoming: read('--incoming'), outgoing: read('--outgoing'), accent: read('--accent'), shared: read('--shared'),
    left: read('--left'), right: read('--right'),
  };
  return theme;
}

function forgetColours() { theme = null; }

function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
}

function rgba(hex, alpha) {
  const value = parseInt(hex.slice(1), 16);
  return `rgba(${value >> 16},${(value >> 8) & 255},${value & 255},${alpha})`;
}

function onScale(share) {
  const place = Math.min(Math.max(share, 0), 1) * (SCALE.length - 1);
  const low = Math.min(Math.floor(place), SCALE.length - 2);
  const [from, to] = [SCALE[low], SCALE[low + 1]].map((hex) => parseInt(hex.slice(1), 16));
  const mix = (shift) => Math.round(((from >> shift) & 255) * (1 - place + low) + ((to >> shift) & 255) * (place - low));
  return `#${((1 << 24) | (mix(16) << 16) | (mix(8) << 8) | mix(0)).toString(16).slice(1)}`;
}

// Colour of every gene. Numbers are coloured by their square root: centralities are skewed.
function geneColours(group, by) {
  if (by === 'community' || !group.genes[by]) return group.colour;
  const values = group.genes[by];
  const largest = values.reduce((most, value) => Math.max(most, value ?? 0), 0) || 1;
  return values.map((value) => (value === null ? null : onScale(Math.sqrt(Math.max(value, 0) / largest))));
}

function legendOfNumbers(group, by) {
  const values = group.genes[by].filter((value) => value !== null);
  const largest = values.reduce((most, value) => Math.max(most, value), 0);
  const bar = make('span', { class: 'ramp', 'aria-hidden': 'true' });
  bar.style.background = `linear-gradient(90deg, ${SCALE.join(', ')})`;
  return make('div', { class: 'ramp-legend' }, bar, make('span', {}, '0'), make('span', {}, formatNumber(largest)));
}
