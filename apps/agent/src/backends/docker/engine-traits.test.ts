import { expect, it } from 'vitest';
import { engineTraits, refuseUnseenDevices } from './engine-traits.ts';
import { podmanNetwork, saysTaken, withBridgeOfPodman } from './podman-networks.ts';

it('Podman is known by its version: its containers outlive it, and its networks come without names', () => {
  const podman = engineTraits({ Components: [{ Name: 'Podman Engine' }, { Name: 'Conmon' }] });
  expect(podman).toMatchObject({ isPodman: true, keepsContainers: true, hasNameService: false });
  for (const version of [{}, { Components: null }, { Components: [{ Name: 'Engine' }, { Name: 'containerd' }] }])
    expect(engineTraits(version)).toMatchObject({ isPodman: false, keepsContainers: false, hasNameService: true });
});

it('a network of Podman has an interface that is known by its name, and no name server on the machine', () => {
  const order = (Name: string) =>
    podmanNetwork({ Name, Labels: { a: 'b' }, IPAM: { Config: [{ Subnet: '10.99.0.64/26' }] } });
  const made = order('backendai-i-1');
  expect(made).toMatchObject({ dns_enabled: false, ipv6_enabled: false, subnets: [{ subnet: '10.99.0.64/26' }] });
  expect(made.network_interface).toMatch(/^bai[0-9a-f]{12}$/);
  expect(order('backendai-i-2').network_interface).not.toBe(made.network_interface);
  const { Options } = withBridgeOfPodman({ Name: 'backendai-i-1', Options: {} } as never);
  expect(Options).toEqual({ 'com.docker.network.bridge.name': made.network_interface });
});

it.each([
  ['network name n1 already used: network already exists', true],
  ['subnet 10.99.0.0/26 is already used on the host or by another config', true],
  ['bridge name bai0 already in use', true],
  ['subnet 10.99.0.0/26 is not a subnet', false],
])('of what Podman says, "%s" means that something is taken: %s', (message, taken) => {
  expect(saysTaken(message)).toBe(taken);
});

it('devices that a container requests of a driver are refused on Podman, which would not hand them out', () => {
  const podman = engineTraits({ Components: [{ Name: 'Podman Engine' }] });
  const requested = { deviceRequests: [{ driver: 'nvidia', deviceIds: ['GPU-1'], capabilities: [['gpu']] }] };
  expect(() => refuseUnseenDevices(podman, requested)).toThrow(
    expect.objectContaining({ code: 'unsupported-feature', message: expect.stringContaining('nvidia') }),
  );
  expect(() => refuseUnseenDevices(podman, { deviceRequests: [] })).not.toThrow();
  expect(() => refuseUnseenDevices(engineTraits({}), requested)).not.toThrow();
});
