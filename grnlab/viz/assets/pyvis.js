// Draws what pyvis describes: nodes, edges and options, with vis-network.
const data = JSON.parse(document.getElementById('data').textContent);
const box = document.getElementById('network');
[box.style.height, box.style.width] = data.size;
window.network = new vis.Network(box, { nodes: new vis.DataSet(data.nodes), edges: new vis.DataSet(data.edges) }, data.options);
