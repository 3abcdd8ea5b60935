import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { derivedImage, dockerRemains, spareNetworks, testImages } from '../apps/agent/tests/docker-world.ts';
import { sessionCommands, visit } from './support/session-commands.ts';

const images = await testImages();
const definition = { command: ['/usr/bin/python3', '-m', 'http.server', '{ports[0]}'] };
const definitions = '/etc/backend.ai/service-defs';
const serving = await derivedImage(
  images.python,
  'serving',
  [
    'LABEL ai.backend.service-ports="pages:http:8080"',
    `RUN mkdir -p ${definitions} && echo '${JSON.stringify(definition)}' > ${definitions}/pages.json`,
    '',
  ].join('\n'),
  afterAll,
);

describe('commands of sessions in containers', () => {
  const cluster = sessionCommands({
    ...{ backend: 'docker', python: images.python, node: images.node, listenOn: '0.0.0.0', port: 45_874 },
  });

  it('Python is ipykernel, and says what only a browser can show', async () => {
    const code = [
      'from IPython.display import HTML, display',
      'display(HTML("<b>bold</b>"))',
      'print(type(get_ipython()).__name__)',
    ].join('\n');
    const { code: exitCode, stdout } = await cluster().cli(['run', images.python, '-c', code]);
    expect({ exitCode, stdout }).toEqual({
      exitCode: 0,
      stdout: '[html: shown in a browser only]\nZMQInteractiveShell\n',
    });
  });

  it('a service of the image starts on request, and again without harm', async () => {
    const name = 'with-service';
    await cluster().json(['session', 'create', '--name', name, '-r', 'mem=256m', serving]);
    expect((await cluster().cli(['session', 'upload', name, 'LICENSE'])).code).toBe(0);
    const { text, ended } = await visit(cluster(), ['app', name, 'pages'], '/LICENSE');
    expect(text).toContain('License');
    expect(ended.code).toBe(0);
    expect((await cluster().cli(['session', 'start-service', name, 'pages'])).code).toBe(0);
    expect((await cluster().cli(['session', 'destroy', name])).code).toBe(0);
  });

  it('notebooks of our image are opened in a browser, by a server that is started when somebody asks for it', async () => {
    const name = 'notebooks';
    await cluster().json(['session', 'create', '--name', name, '-r', 'mem=512m', images.jupyter]);
    expect((await cluster().cli(['session', 'exec', name, '-c', 'print(6 * 7)'])).stdout).toBe('42\n');
    const { text, ended } = await visit(cluster(), ['app', name, 'jupyter'], '/tree');
    expect(text).toContain('<title>Home Page - Select or create a notebook</title>');
    expect(ended.code).toBe(0);
    expect((await cluster().cli(['session', 'start-service', name, 'jupyter'])).stdout).toBe('jupyter runs.\n');
    expect((await cluster().cli(['session', 'destroy', name])).code).toBe(0);
  });

  it('nothing of ended sessions is left in the engine', async () => {
    expect(await dockerRemains(null, join(cluster().dataDir, 'agent'), spareNetworks)).toEqual([]);
  });
});
