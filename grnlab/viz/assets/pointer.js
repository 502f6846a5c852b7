// Mouse, touch and keys on a scene: drag the ground to move, a gene to place it, wheel or pinch to zoom.

const TIP = element('tip');

function listen(scene, { click, open, tip, placed }) {
  const { box } = scene;
  const down = new Map();
  let start = null;
  const where = (event) => {
    const edge = box.getBoundingClientRect();
    return { x: event.clientX - edge.left, y: event.clientY - edge.top };
  };

  box.addEventListener('pointerdown', (event) => {
    if (event.button !== 0) return;
    const point = where(event);
    down.set(event.pointerId, point);
    box.setPointerCapture(event.pointerId);
    TIP.hidden = true;
    start = { ...point, view: { ...scene.view }, node: down.size === 1 ? scene.at(point.x, point.y) : null, far: false, gap: pinch() };
  });

  function pinch() {
    if (down.size !== 2) return 0;
    const [a, b] = down.values();
    return Math.hypot(a.x - b.x, a.y - b.y);
  }

  box.addEventListener('pointermove', (event) => {
    const point = where(event);
    if (!down.has(event.pointerId)) { hover(point); return; }
    down.set(event.pointerId, point);
    if (down.size === 2 && start.gap) {
      const [a, b] = down.values();
      const grown = pinch() / start.gap;
      scene.zoom((start.view.scale * grown) / scene.view.scale, (a.x + b.x) / 2, (a.y + b.y) / 2);
      start.far = true;
      return;
    }
    if (!start.far && Math.hypot(point.x - start.x, point.y - start.y) < 4) return;
    start.far = true;
    if (start.node !== null) {
      const { picture, view } = scene;
      picture.x[start.node] = (point.x - view.x) / view.scale;
      picture.y[start.node] = (point.y - view.y) / view.scale;
      if (scene.dragged !== start.node) { scene.dragged = start.node; scene.incident = null; }
      scene.moved = performance.now();
      scene.stale = true;
      scene.request();
    } else {
      scene.look({ scale: start.view.scale, x: start.view.x + point.x - start.x, y: start.view.y + point.y - start.y });
    }
  });

  function release(event) {
    if (!down.delete(event.pointerId) || !start) return;
    if (scene.dragged !== null) {
      placed(scene.dragged);
      scene.dragged = null;
      scene.repaint();
    } else if (!start.far && event.type === 'pointerup') {
      click(start.node);
    }
    start = null;
  }
  box.addEventListener('pointerup', release);
  box.addEventListener('pointercancel', release);
  box.addEventListener('dblclick', (event) => { const { x, y } = where(event); open(scene.at(x, y)); });
  box.addEventListener('pointerleave', () => { TIP.hidden = true; });
  box.addEventListener('wheel', (event) => {
    event.preventDefault();
    const { x, y } = where(event);
    const step = event.deltaY * (event.deltaMode === 1 ? 30 : 1);
    scene.zoom(Math.exp(-Math.max(-120, Math.min(120, step)) * 0.002), x, y);
  }, { passive: false });

  function hover({ x, y }) {
    const node = scene.picture ? scene.at(x, y) : null;
    box.style.cursor = node === null ? 'grab' : 'pointer';
    TIP.hidden = node === null;
    if (node === null) return;
    TIP.textContent = tip(node);
    const edge = box.getBoundingClientRect();
    const left = Math.min(edge.left + x + 14, innerWidth - TIP.offsetWidth - 8);
    TIP.style.left = `${Math.max(4, left)}px`;
    TIP.style.top = `${Math.min(edge.top + y + 14, innerHeight - TIP.offsetHeight - 8)}px`;
  }

  box.addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const { view } = scene;
    const step = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] }[event.key];
    if (step) scene.look({ ...view, x: view.x + step[0], y: view.y + step[1] });
    else if (event.key === '+' || event.key === '=') scene.zoom(1.25);
    else if (event.key === '-') scene.zoom(0.8);
    else if (event.key === '0') scene.fit();
    else return;
    event.preventDefault();
  });
}
