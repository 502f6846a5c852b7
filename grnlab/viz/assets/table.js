// Tables that sort by a click on a heading and grow on demand. All text goes in as text, never as HTML.

const FIRST_ROWS = 100;

function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  Object.entries(attributes).forEach(([key, value]) => {
    if (key === 'class') node.className = value;
    else if (key.startsWith('on')) node.addEventListener(key.slice(2), value);
    else if (value === true) node.setAttribute(key, '');
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(key, value);
  });
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

function swatch(colour, extra = '') {
  const dot = make('span', { class: `swatch ${extra}`, 'aria-hidden': 'true' });
  if (colour) dot.style.backgroundColor = colour;
  return dot;
}

// columns: {title, value(row), cell(row)?, number?, short?, hint?, export(row)?}; options: {column, falling, caption, file}
function makeTable(columns, rows, options = {}) {
  const sort = { column: options.column ?? 0, falling: options.falling ?? false };
  let limit = FIRST_ROWS;
  const body = make('tbody');
  const more = make('button', { type: 'button', class: 'more', onclick: () => { limit += 5 * FIRST_ROWS; fill(); } });
  const heads = columns.map((column, place) => make(
    'th', { scope: 'col', class: column.number ? 'number' : '' },
    make('button', { type: 'button', title: column.hint, onclick: () => turn(place) }, column.title),
  ));

  function turn(place) {
    sort.falling = sort.column === place ? !sort.falling : Boolean(columns[place].number);
    sort.column = place;
    fill();
  }

  function ordered() {
    if (sort.column < 0) return rows; // in the order given
    const { value } = columns[sort.column];
    const sign = sort.falling ? -1 : 1;
    return rows.map((row, place) => [value(row), place, row]).sort((a, b) => {
      const empty = (a[0] === null || a[0] === undefined) - (b[0] === null || b[0] === undefined);
      if (empty) return empty;
      if (typeof a[0] === 'string' || typeof b[0] === 'string') return sign * String(a[0]).localeCompare(String(b[0]), 'en') || a[1] - b[1];
      return sign * (a[0] - b[0]) || a[1] - b[1];
    }).map((entry) => entry[2]);
  }

  function fill() {
    heads.forEach((head, place) => {
      if (place === sort.column) head.setAttribute('aria-sort', sort.falling ? 'descending' : 'ascending');
      else head.removeAttribute('aria-sort');
    });
    body.replaceChildren(...ordered().slice(0, limit).map((row) => make(
      'tr', { class: options.rowClass ? options.rowClass(row) : '' },
      columns.map((column) => make(
        'td', { class: column.number ? 'number' : column.short ? 'short' : 'text' },
        column.cell ? column.cell(row) : formatNumber(column.value(row)),
      )),
    )));
    more.hidden = rows.length <= limit;
    more.textContent = `Show more (${(rows.length - limit).toLocaleString('en')} further rows)`;
  }

  function exported() {
    const value = (column, row) => (column.export || column.value)(row);
    saveFile(csv(columns.map((column) => column.title), ordered().map((row) => columns.map((column) => value(column, row)))), 'text/csv', options.file);
  }

  fill();
  return make('div', { class: 'table' },
    options.file ? make('button', { type: 'button', class: 'plain save', title: `Save this table as ${options.file}`, onclick: exported }, 'CSV') : null,
    make('table', {}, make('caption', { class: 'sr' }, options.caption || ''), make('thead', {}, make('tr', {}, heads)), body),
    more);
}
