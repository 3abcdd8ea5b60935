import { describe, expect, it } from 'vitest';
import { parseTemplates } from './parse-templates.ts';

const template = {
  api_version: '6',
  kind: 'task_template',
  metadata: { name: 'training', tag: 'nightly' },
  spec: {
    session_type: 'batch',
    kernel: {
      image: 'python',
      environ: { LEVEL: 3, type: 'x' },
      run: { bootstrap: 'id', startup_command: 'python train.py' },
    },
    scaling_group: 'gpu',
    resources: { cpu: 2, mem: '1g' },
  },
};
const session = {
  image: 'python',
  type: 'batch',
  environ: { LEVEL: '3', type: 'x' },
  resources: { cpu: 2, mem: '1g' },
  tag: 'nightly',
  resourceGroup: 'gpu',
  bootstrapScript: 'id',
  startupCommand: 'python train.py',
};

const yaml = `
apiVersion: "6"
kind: taskTemplate
metadata: { name: training, tag: nightly }
spec:
  sessionType: batch
  kernel:
    image: python
    environ: { LEVEL: 3, type: x }
    run: { bootstrap: id, startup: python train.py }
  scalingGroup: gpu
  resources: { cpu: 2, mem: 1g }
`;

describe('a payload of templates', () => {
  it('is JSON or YAML, one, a list, or what official clients wrap them in', () => {
    const one = { name: 'training', session };
    expect(parseTemplates(JSON.stringify(template))).toMatchObject([one]);
    expect(parseTemplates(yaml)).toMatchObject([one]);
    expect(parseTemplates(JSON.stringify([template, template]))).toMatchObject([one, one]);
    const wrapped = { session_templates: [{ name: 'other', template }] };
    expect(parseTemplates(JSON.stringify(wrapped))).toMatchObject([{ name: 'other', session }]);
    expect(parseTemplates(yaml)[0]?.session).toEqual(session);
  });

  it('may have very many keys, and some of them twice: the last one counts', () => {
    const variables = Array.from({ length: 50_000 }, (_, at) => `"V${at}":1`);
    const many = JSON.stringify(template).replace('"LEVEL":3', variables.join());
    expect(() => parseTemplates(many)).toThrow(expect.objectContaining({ code: 'invalid-input' }));
    const twice = JSON.stringify(template).replace('"LEVEL":3', '"LEVEL":3,"LEVEL":4');
    expect(parseTemplates(twice)).toMatchObject([{ session: { environ: { LEVEL: '4' } } }]);
  });

  const withSpec = (spec: object): string => JSON.stringify({ ...template, spec: { ...template.spec, ...spec } });
  it.each([
    ['an alias of nothing', '*x', 'payload'],
    ['a node that is part of itself', 'a: &a { b: *a }', 'payload'],
    ['nodes too deep to look at', '['.repeat(20_000), 'payload'],
    ['maps too deep to look at', `${'{"a":'.repeat(20_000)}1${'}'.repeat(20_000)}`, 'payload'],
    ['blocks too deep to look at', '- '.repeat(20_000), 'payload'],
    ['aliases beyond number', `a: &a [x, x]\nb: [${'*a, '.repeat(200)}*a]`, 'payload'],
    ['several documents', '--- 1\n--- 2\n', 'payload'],
    ['nothing', '', 'payload'],
    ['half a character in its version', JSON.stringify({ ...template, api_version: '\ud800' }), 'api_version'],
    ['NUL in its name', JSON.stringify({ ...template, metadata: { name: 'a\0b' } }), 'metadata.name'],
    ['a version that is no text', JSON.stringify({ ...template, api_version: { toString: 1 } }), 'api_version'],
    ['text', 'just text', 'payload'],
    ['no templates', '[]', 'payload'],
    ['a kind of something else', JSON.stringify({ ...template, kind: 'cluster_template' }), 'kind'],
    ['an unknown key', withSpec({ colour: 'red' }), 'spec'],
    ['a batch without a command', withSpec({ kernel: { image: 'python' } }), 'startupCommand'],
    ['a wrong type of session', withSpec({ session_type: 'strange' }), 'type'],
    ['a wrong environment', withSpec({ kernel: { ...template.spec.kernel, environ: { 'a b': 'c' } } }), 'environ.a b'],
  ])('with %s is refused, and the field is named', (_what, payload, field) => {
    expect(() => parseTemplates(payload)).toThrow(
      expect.objectContaining({ code: 'invalid-input', data: { fields: { [field]: expect.any(String) } } }),
    );
  });

  it('with mounts or a repository is refused: neither is offered', () => {
    for (const payload of [
      withSpec({ mounts: { data: '/data' } }),
      withSpec({ kernel: { ...template.spec.kernel, git: { repository: 'https://example.com' } } }),
    ])
      expect(() => parseTemplates(payload)).toThrow(expect.objectContaining({ code: 'unsupported-feature' }));
  });
});
