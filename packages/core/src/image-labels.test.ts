import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { readImageLabels } from './image-labels.ts';

describe('labels of images', () => {
  it('tell ports, amounts, runtime and role', () => {
    const facts = readImageLabels({
      'ai.backend.kernelspec': '1',
      'ai.backend.role': 'INFERENCE',
      'ai.backend.runtime-type': 'python',
      'ai.backend.runtime-path': '/usr/bin/python3',
      'ai.backend.accelerators': 'cuda,rocm',
      'ai.backend.envs.corecount': 'OMP_NUM_THREADS,NPROC',
      'ai.backend.service-ports': 'jupyter:http:8888, desk:vnc:[5901,5902],shell:pty:3000,api:tcp:9000',
      'ai.backend.endpoint-ports': 'api',
      'ai.backend.resource.min.cpu': '2',
      'ai.backend.resource.min.mem': '256m',
      'ai.backend.resource.max.cpu': '8',
      'ai.backend.resource.preferred.shmem': '128m',
      'org.opencontainers.image.title': 'not ours',
    });
    expect(facts).toEqual({
      isKernel: true,
      role: 'inference',
      language: 'python',
      runtimePath: '/usr/bin/python3',
      accelerators: ['cuda', 'rocm'],
      servicePorts: [
        { name: 'jupyter', protocol: 'http', ports: [8888] },
        { name: 'desk', protocol: 'vnc', ports: [5901, 5902] },
        { name: 'api', protocol: 'tcp', ports: [9000] },
      ],
      endpointPorts: ['api'],
      coreCountVariables: ['OMP_NUM_THREADS', 'NPROC'],
      minSlots: { cpu: '2', mem: '268435456' },
      maxSlots: { cpu: '8' },
      shmem: '134217728',
      warnings: [],
    });
  });

  it('have defaults: a shell, one processor, 64 MiB, and 64 MiB of shared memory', () => {
    expect(readImageLabels({})).toMatchObject({
      isKernel: false,
      role: 'compute',
      language: 'shell',
      minSlots: { cpu: '1', mem: '67108864' },
      maxSlots: {},
      shmem: '67108864',
      warnings: [],
    });
  });

  it('that make no sense are warnings, and the others count', () => {
    const facts = readImageLabels({
      'ai.backend.role': 'KING',
      'ai.backend.runtime-type': 'cobol',
      'ai.backend.service-ports':
        'ok:http:8080,ssh:tcp:2200,far:tcp:99999,a:b,dup:http:8080,ok:tcp:9000,x:ftp:2121,open:tcp:[1,',
      'ai.backend.endpoint-ports': 'ok,nobody',
      'ai.backend.resource.min.cpu': 'lots',
      'ai.backend.resource.min.mem': '1g',
      'ai.backend.resource.max.mem': '1m',
      'ai.backend.resource.preferred.shmem': '-3',
    });
    expect(facts.servicePorts).toEqual([{ name: 'ok', protocol: 'http', ports: [8080] }]);
    expect(facts.endpointPorts).toEqual(['ok']);
    expect(facts.minSlots).toEqual({ cpu: '1', mem: '1073741824' });
    expect(facts.maxSlots).toEqual({});
    expect([facts.role, facts.language, facts.shmem]).toEqual(['compute', 'shell', '67108864']);
    const labels = facts.warnings.map(({ label }) => label.replace('ai.backend.', ''));
    expect(new Set(labels)).toEqual(
      new Set([
        'role',
        'runtime-type',
        'service-ports',
        'endpoint-ports',
        'resource.min.cpu',
        'resource.max.mem',
        'resource.preferred.shmem',
      ]),
    );
    expect(labels.filter((label) => label === 'service-ports')).toHaveLength(7);
  });

  it.each([
    'nonsense',
    'a:http:',
    'a:http:8080:1',
    '../x:http:8080',
    'a:gopher:8080',
    'a:http:80',
    'a:http:[]',
    'a:http:2200',
    'a:tcp:[5000,2001]',
    'a:tcp:[5000,5000]',
    'ok:http:9001',
    'a:http:9000',
  ])('leave a service out that is %s, with one warning', (entry) => {
    const { servicePorts, warnings } = readImageLabels({ 'ai.backend.service-ports': `ok:http:9000,${entry}` });
    expect(servicePorts.map(({ name }) => name)).toEqual(['ok']);
    expect(warnings).toHaveLength(1);
  });

  it('never throw, whatever is in them', () => {
    const name = fc.oneof(
      fc.constantFrom('service-ports', 'role', 'runtime-type', 'runtime-path', 'kernelspec', 'endpoint-ports'),
      fc.string().map((end) => `resource.min.${end}`),
      fc.constantFrom('resource.max.cpu', 'resource.min.__proto__', 'resource.min.constructor', 'accelerators'),
    );
    const value = fc.oneof(fc.string(), fc.constantFrom('[', 'a:b:[1,2', '1e9', '99999999999999999999999g', ',,,'));
    const labels = fc.dictionary(
      name.map((end) => `ai.backend.${end}`),
      value,
    );
    fc.assert(
      fc.property(labels, (map) => {
        const { warnings, servicePorts } = readImageLabels(map);
        return warnings.length <= 50 && servicePorts.every(({ ports }) => ports.every(Number.isInteger));
      }),
    );
  });
});
