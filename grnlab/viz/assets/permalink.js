// The state of the page as the part of its address behind the #, so that a link opens what one sees.

function linkOf(page) {
  const { group } = page;
  const said = new URLSearchParams();
  const say = (key, value, usual) => { if (value !== usual && value !== null) said.set(key, value); };
  say('type', group.name, meta.groups[0].name);
  say('detail', String(page.level), '0');
  say('weight', page.threshold ? String(page.threshold) : null, null);
  say('colour', page.colouring, 'community');
  say('gene', page.gene === null ? null : group.genes.name[page.gene], null);
  say('focus', page.focus ? '1' : null, null);
  say('community', page.community === null ? null : String(page.community), null);
  say('view', page.view, meta.groups.length > 1 ? 'overview' : 'hubs');
  say('compare', page.other === null ? null : meta.groups[page.other].name, null);
  say('theme', document.documentElement.dataset.theme || null, null);
  return said.toString();
}

// What a link asks for; anything it does not know is left out.
function readLink(text) {
  const asked = new URLSearchParams(text.replace(/^#/, ''));
  const find = (name) => { const at = meta.groups.findIndex((entry) => entry.name === name); return at < 0 ? null : at; };
  const number = (key) => { const value = Number(asked.get(key)); return asked.has(key) && Number.isFinite(value) && value >= 0 ? value : null; };
  return {
    type: find(asked.get('type')) ?? 0, other: find(asked.get('compare')), level: Math.floor(number('detail') ?? 0), threshold: number('weight') ?? 0,
    colouring: COLOURINGS.some(([key]) => key === asked.get('colour')) ? asked.get('colour') : 'community',
    gene: asked.get('gene'), focus: asked.get('focus') === '1', community: number('community'),
    view: VIEWS.some(([key]) => key === asked.get('view')) ? asked.get('view') : null,
    theme: ['dark', 'light'].includes(asked.get('theme')) ? asked.get('theme') : null,
  };
}

let written = location.hash.replace(/^#/, '');

function writeLink(page) {
  const text = linkOf(page);
  if (text === written) return;
  written = text;
  try {
    history.replaceState(null, '', text ? `#${text}` : location.href.replace(/#.*$/, ''));
  } catch { // a page inside a notebook has no address of its own
    element('copy').hidden = true;
  }
}
