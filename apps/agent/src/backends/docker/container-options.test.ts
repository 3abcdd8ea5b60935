import { parseResourceSlots } from '@backend.ai/core';
import { describe, expect, it } from 'vitest';
import { noContribution } from '../../accelerators/accelerator-plugin.ts';
import { kernelResources, unknownAllocation } from '../../resources/kernel-resources.ts';
import { scratchPaths } from '../scratch/scratch.ts';
import { type ContainerRequest, containerOptions, containerResources, limitsWithin } from './container-options.ts';
import { kernelImage } from './kernel-image.ts';

const image = {
  ...{ name: 'backend.ai/python:3.11', id: 'sha256:1', language: 'python' as const, interpreter: '/usr/bin/python3' },
  environment: { PATH: '/opt/bin:/usr/bin', HOME: '/root' },
  services: [],
  coreCountVariables: ['OMP_NUM_THREADS'],
  shmemBytes: 64 * 1024 ** 2,
};
const spec: ContainerRequest['spec'] = {
  ...{ kernelId: 'k', sessionId: 's', sessionName: 'test', accessKey: 'A', image: image.name },
  ...{ clusterRole: 'main', clusterIndex: 1, hostname: 'main1', slots: {}, environ: { MINE: 'yes', USER: 'root' } },
};
const slots = parseResourceSlots({ cpu: '1.5', mem: '1g' });
const none = kernelResources(unknownAllocation);
const request: ContainerRequest = {
  ...{ spec, image, name: 'kernel.python.k', labels: { a: 'b' }, paths: scratchPaths('/data/scratch', 'k') },
  ...{
    user: { uid: 700_001, gid: 700_001 },
    runnerFolder: '/data/runner',
    carried: null,
    network: 'n',
    limits: { openFiles: 4096, processes: 8192, lockedMemory: -1 },
    addresses: null,
  },
  resources: containerResources(spec, image, slots, none, 512),
  readOnlyRoot: false,
  shiftsUsers: false,
  knowsIPv6: true,
  isWarm: false,
};

describe('the container of a kernel', () => {
  const { HostConfig = {}, ...options } = containerOptions(request);

  it('may nothing that its user does not need', () => {
    expect(options.User).toBe('700001:700001');
    expect(HostConfig).toMatchObject({ CapDrop: ['ALL'], SecurityOpt: ['no-new-privileges'], IpcMode: 'private' });
    expect([HostConfig.Privileged, HostConfig.CapAdd, HostConfig.PortBindings, HostConfig.PublishAllPorts]).toEqual(
      Array(4).fill(undefined),
    );
  });

  it('has no IPv6, where there is any', () => {
    const disabled = { 'net.ipv6.conf.all.disable_ipv6': '1' };
    expect(HostConfig.Sysctls).toEqual(disabled);
    expect(containerOptions({ ...request, knowsIPv6: false }).HostConfig).not.toHaveProperty('Sysctls');
  });

  it('has its limits, without swap', () => {
    const memory = 1024 ** 3;
    expect(HostConfig).toMatchObject({ CpuQuota: 150_000, Memory: memory, MemorySwap: memory, PidsLimit: 512 });
    expect(HostConfig.Ulimits).toContainEqual({ Name: 'nofile', Soft: 4096, Hard: 4096 });
    expect(HostConfig.Ulimits).toContainEqual({ Name: 'nproc', Soft: 8192, Hard: 8192 });
    expect(HostConfig.Ulimits).toContainEqual({ Name: 'memlock', Soft: -1, Hard: -1 });
    const unlimited = containerOptions({ ...request, limits: { ...request.limits, processes: null } });
    expect(unlimited.HostConfig?.Ulimits?.map(({ Name }) => Name)).toEqual(['nofile', 'memlock', 'core']);
  });

  it('is known by its name on the network of its session: over several machines, where it has one', () => {
    const known = (one: ContainerRequest): unknown => {
      const { HostConfig: { NetworkMode } = {}, NetworkingConfig } = containerOptions(one);
      return [NetworkMode, NetworkingConfig];
    };
    const endpoints = (network: string) => ({ EndpointsConfig: { [network]: { Aliases: ['main1'] } } });
    expect(known(request)).toEqual(['n', endpoints('n')]);
    const cluster = { localRank: 0, replicas: { main: 1, sub: 0 }, hosts: [{ name: 'main1' }] };
    const wide = { ...request, spec: { ...spec, cluster: { ...cluster, network: 'wide' } } };
    expect(known(wide)).toEqual(['wide', endpoints('wide')]);
  });

  it('writes only into its own folders', () => {
    const writable = HostConfig.Mounts?.filter(({ ReadOnly }) => !ReadOnly).map(({ Target }) => Target);
    expect(writable).toEqual(['/home/work', '/run/kernel', '/tmp']);
    expect(HostConfig.Mounts?.some(({ Target }) => Target === '/home/config')).toBe(true);
  });

  it('keeps what the image says of its environment, but not who the user is', () => {
    expect(options.Env).toEqual(
      expect.arrayContaining(['PATH=/opt/bin:/usr/bin', 'HOME=/home/work', 'MINE=yes', 'USER=work']),
    );
  });

  it('tells the programs of its image how many processors they have, unless the user says otherwise', () => {
    const coresOf = (cpu: string, environ = {}) =>
      containerOptions({ ...request, spec: { ...spec, slots: { cpu }, environ } }).Env?.filter((entry) =>
        entry.startsWith('OMP_NUM_THREADS='),
      );
    expect([coresOf('4'), coresOf('1.5'), coresOf('0.2')].flat()).toEqual([
      ...['OMP_NUM_THREADS=4', 'OMP_NUM_THREADS=2', 'OMP_NUM_THREADS=1'],
    ]);
    expect(coresOf('4', { OMP_NUM_THREADS: '1' })).toEqual(['OMP_NUM_THREADS=1']);
  });

  it('tells the services of its image as its label has them', () => {
    const label = 'jupyter:http:8080,tensorboard:http:6006';
    const labels = { 'ai.backend.runtime-type': 'python', 'ai.backend.service-ports': label };
    const labelled = kernelImage('python', {
      id: 'sha256:1',
      names: [],
      architecture: 'amd64',
      labels,
      environ: [],
      sizeBytes: 1,
    });
    expect(containerOptions({ ...request, image: labelled }).Env).toContain(`BACKENDAI_SERVICE_PORTS=${label}`);
    expect(containerOptions(request).Env?.some((entry) => entry.startsWith('BACKENDAI_SERVICE_PORTS='))).toBe(false);
  });

  it('of a shell is driven by Node.js that comes along, with the shell that its image names', () => {
    const shellImage = { ...image, language: 'shell' as const, interpreter: '/bin/dash' };
    const { Entrypoint, HostConfig: host } = containerOptions({
      ...{ ...request, image: shellImage, carried: { folder: '/data/programs-1' } },
    });
    const folder = '/opt/backend.ai/programs';
    expect(Entrypoint?.slice(0, 5)).toEqual([
      ...[`${folder}/ld.so`, '--library-path', folder, `${folder}/node`, '/opt/backend.ai/runner/runner.cjs'],
    ]);
    expect(Entrypoint).toEqual(expect.arrayContaining(['--shell', '/bin/dash', '--carried', folder]));
    expect(host?.Mounts).toContainEqual({ Type: 'bind', Source: '/data/programs-1', Target: folder, ReadOnly: true });
  });

  it('is refused for a shell when nothing can come along', () => {
    const shellImage = { ...image, language: 'shell' as const, interpreter: 'sh' };
    expect(() => containerOptions({ ...request, image: shellImage })).toThrow(
      expect.objectContaining({ code: 'unsupported-feature' }),
    );
  });

  it('is made of what the image was when it was looked at', () => {
    expect(options.Image).toBe('sha256:1');
  });

  it('runs on the cores that it was given, with its accelerators and nothing of the kind for others', () => {
    const devices = {
      ...noContribution,
      ...{ files: ['/dev/kfd'], groups: [44], environ: { GPU_COUNT: '1' }, mounts: [{ source: '/a', target: '/b' }] },
      deviceRequests: [{ driver: 'nvidia', deviceIds: ['GPU-1'], capabilities: [['gpu']] }],
    };
    const own = { allocation: { ...unknownAllocation, cpus: [0, 1, 5] }, devices };
    const made = containerOptions({ ...request, resources: containerResources(spec, image, slots, own, 512) });
    expect(made.Env).toContain('GPU_COUNT=1');
    expect(made.HostConfig).toMatchObject({
      CpusetCpus: '0-1,5',
      Devices: [{ PathOnHost: '/dev/kfd', PathInContainer: '/dev/kfd', CgroupPermissions: 'rwm' }],
      GroupAdd: ['44'],
      DeviceRequests: [{ Driver: 'nvidia', DeviceIDs: ['GPU-1'], Capabilities: [['gpu']] }],
    });
    expect(made.HostConfig?.Mounts).toContainEqual({ Type: 'bind', Source: '/a', Target: '/b', ReadOnly: true });
    for (const name of ['CpusetCpus', 'Devices', 'GroupAdd', 'DeviceRequests'])
      expect(HostConfig).not.toHaveProperty(name);
  });

  it('has an address of its own and finds the others in its table where the engine tells no names', () => {
    const addresses = { own: '10.99.0.2', others: [{ name: 'sub1', address: '10.99.0.3' }] };
    const made = containerOptions({ ...request, addresses });
    const endpoint = { IPAMConfig: { IPv4Address: '10.99.0.2' } };
    expect(made).toMatchObject({ NetworkingConfig: { EndpointsConfig: { n: endpoint } } });
    expect(made.HostConfig?.ExtraHosts).toEqual(['sub1:10.99.0.3']);
  });

  it('has the shared memory that was asked for, within its memory', () => {
    expect(containerResources({}, image, slots, none, 1).shmemBytes).toBe(64 * 1024 ** 2);
    expect(containerResources({ shmem: 1024 }, image, slots, none, 1).shmemBytes).toBe(1024);
    expect(containerResources({ shmem: 1024 ** 4 }, image, slots, none, 1).shmemBytes).toBe(1024 ** 3);
  });
});

it.each([
  ['Max open files            1024                 20000                files', 20_000],
  ['Max open files            1024                 unlimited            files', 1_048_576],
  ['Max open files            1024                 4000000              files', 1_048_576],
])('open files stay within the limit of the machine: %s', (line, files) => {
  expect(limitsWithin(`Limit  Soft Limit  Hard Limit  Units\n${line}\n`, '')).toMatchObject({ openFiles: files });
});

it.each([
  ['8388608', '00000000a80425fb', 8_388_608],
  ['8388608', '000001ffffffffff', -1],
  ['unlimited', '0000000000000000', -1],
])(
  'locked memory has no limit but that of an agent that may not raise it: %s with the rights %s',
  (hard, rights, most) => {
    const limits = `Max locked memory         8388608              ${hard}              bytes\n`;
    expect(limitsWithin(limits, `Name:\tnode\nCapEff:\t${rights}\n`)).toMatchObject({ lockedMemory: most });
  },
);
