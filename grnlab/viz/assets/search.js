// The search field: suggestions below it, arrow keys walk through them, Enter takes one, Escape closes.

function makeSearch({ group, choose }) {
  const input = element('gene');
  const list = element('suggestions');
  let found = [];
  let marked = -1;

  function close() {
    list.hidden = true;
    marked = -1;
    input.setAttribute('aria-expanded', 'false');
    input.removeAttribute('aria-activedescendant');
  }

  function mark(place) {
    marked = place;
    [...list.children].forEach((item, at) => item.setAttribute('aria-selected', String(at === marked)));
    if (marked < 0) { input.removeAttribute('aria-activedescendant'); return; }
    input.setAttribute('aria-activedescendant', `suggestion-${marked}`);
    list.children[marked].scrollIntoView({ block: 'nearest' });
  }

  function take(gene) {
    input.value = group().genes.name[gene];
    close();
    choose(gene);
  }

  function suggest() {
    const facts = group().genes;
    found = findGenes(group(), input.value, 10);
    list.replaceChildren(...found.map((gene, place) => make('li', {
      role: 'option', id: `suggestion-${place}`, 'aria-selected': 'false', title: facts.name[gene],
      onpointerdown: (event) => { event.preventDefault(); take(gene); },
    }, make('span', { class: 'text' }, facts.name[gene]), make('small', {}, `#${facts.rank[gene]}`))));
    marked = -1;
    list.hidden = found.length === 0;
    input.setAttribute('aria-expanded', String(!list.hidden));
    input.removeAttribute('aria-activedescendant');
  }

  function submit() {
    const { value } = input;
    if (!value.trim()) return;
    if (marked >= 0) { take(found[marked]); return; }
    const near = findGenes(group(), value, 5);
    const gene = geneCalled(group(), value) ?? (near.length === 1 ? near[0] : null);
    close();
    if (gene !== null) { choose(gene); return; }
    const names = near.map((other) => shorten(group().genes.name[other], 30)).join(', ');
    say(`No gene called “${shorten(value.trim(), 40)}” is listed in ${shorten(group().name, 40)}.${names ? ` Did you mean ${names}?` : ''}`);
  }

  input.addEventListener('input', suggest);
  input.addEventListener('blur', close);
  // no <form>: the frame of a notebook forbids sending one, and with it the event
  input.addEventListener('keydown', (event) => {
    if (event.key === 'Enter') { event.preventDefault(); submit(); return; }
    if (event.key === 'Escape' && !list.hidden) { close(); event.stopPropagation(); event.preventDefault(); return; }
    if (event.key !== 'ArrowDown' && event.key !== 'ArrowUp') return;
    event.preventDefault();
    if (list.hidden) suggest();
    if (!found.length) return;
    const step = event.key === 'ArrowDown' ? 1 : -1;
    mark(marked < 0 ? (step > 0 ? 0 : found.length - 1) : (marked + step + found.length) % found.length);
  });
}
