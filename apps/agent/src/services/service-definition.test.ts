import { hasCode } from '@backend.ai/core';
import { expect, it } from 'vitest';
import { parseServiceDefinition, planService, serviceDefinitionSchema } from './service-definition.ts';

const request = { ports: [8080, 8081], envs: {}, arguments: {} };
const plan = (definition: object, more: Partial<typeof request> = {}) =>
  planService('web', serviceDefinitionSchema.parse(definition), { ...request, ...more });

it('fills templates in commands and variables', () => {
  const { main } = plan({
    command: ['serve', '--port={port}', '{ports[1]}', '{{literal}}', '{service_name}'],
    env: { ADDRESS: 'localhost:{port}' },
  });
  expect(main).toEqual({
    argv: ['serve', '--port=8080', '8081', '{literal}', 'web'],
    environ: { ADDRESS: 'localhost:8080' },
  });
});

it('appends arguments of the definition and of the request', () => {
  const definition = {
    command: ['serve'],
    default_arguments: { '--quiet': null, '--base': 'x' },
    allowed_arguments: ['--base', '--list'],
    allowed_envs: ['TOKEN'],
  };
  const given = { arguments: { '--base': 'y', '--list': ['1', '2'] }, envs: { TOKEN: 't' } };
  expect(plan(definition, given as never).main).toEqual({
    argv: ['serve', '--quiet', '--base', 'y', '--list', '1', '2'],
    environ: { TOKEN: 't' },
  });
});

it.each([{ arguments: { '--other': 'x' } }, { envs: { LD_PRELOAD: 'x' } }])(
  'refuses %j, which is not allowed',
  (more) => {
    expect(() => plan({ command: ['serve'] }, more as never)).toThrow(
      expect.objectContaining({ code: 'invalid-input' }),
    );
  },
);

it('runs what has to happen before, and knows the files it wrote', () => {
  const { before, main } = plan({
    command: ['serve', '--config', '{cfg}'],
    prestart: [
      { action: 'mkdir', args: { path: '/home/work/.web' } },
      { action: 'write_tempfile', args: { body: ['port = {port}', "name = 'it''s'"], mode: '600' }, ref: 'cfg' },
      { action: 'run_command', args: { command: ['init', '{port}'] } },
    ],
  });
  expect(before.map(({ argv }) => argv.filter((word) => !word.includes('printf')))).toEqual([
    ['mkdir', '-p', '--', '/home/work/.web'],
    ['/bin/sh', '-c', 'sh', '/tmp/.service-web-cfg', "port = 8080\nname = 'it''s'", '600'],
    ['init', '8080'],
  ]);
  expect(main?.argv).toEqual(['serve', '--config', '/tmp/.service-web-cfg']);
});

it('starts nothing for a service that is there anyway', () => {
  expect(plan({ noop: true, command: ['x'] }).main).toBeNull();
});

it('tells a definition that is not understood from one that names what nothing sets', () => {
  for (const json of ['{', '[]', '{"command": 3}', '{"prestart": [{"action": "reboot"}]}']) {
    try {
      parseServiceDefinition('web', json);
      expect.unreachable();
    } catch (error) {
      expect(hasCode(error, 'state-conflict')).toBe(true);
    }
  }
  expect(() => plan({ command: ['{nothing}'] })).toThrow(/"nothing", which nothing sets/);
});
