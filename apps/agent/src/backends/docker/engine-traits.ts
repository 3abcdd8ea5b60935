import { AppError } from '@backend.ai/core';
import type { DeviceContribution } from '../../accelerators/accelerator-plugin.ts';

/** What engines that speak Docker's protocol do each in its own way. */
export interface EngineTraits {
  readonly isPodman: boolean;
  /** Containers go on while the engine is away, however it is set up. */
  readonly keepsContainers: boolean;
  /** Containers of a network find one another by name without asking the machine, which the firewall keeps them from. */
  readonly hasNameService: boolean;
  /** The interface of a network is there as soon as the network is, and not only with its first container. */
  readonly makesBridgesAhead: boolean;
  /** Gives containers as many processes as it may have where nothing is said, and not more than it may give. */
  readonly fitsProcesses: boolean;
  /** Hands out the devices that a container requests of a driver, as those of NVIDIA are. */
  readonly takesDeviceRequests: boolean;
  /** Takes in images without the layers that it has. */
  readonly knowsItsLayers: boolean;
}

/** Of the answer to `/version`. */
export interface EngineVersion {
  readonly Components?: ReadonlyArray<{ readonly Name: string }> | null;
}

export function engineTraits(version: EngineVersion): EngineTraits {
  const isPodman = isPodmanVersion(version);
  return {
    isPodman,
    // Each container of Podman has a keeper of its own.
    keepsContainers: isPodman,
    hasNameService: !isPodman,
    makesBridgesAhead: !isPodman,
    fitsProcesses: !isPodman,
    // By the interface of Docker: it takes the request and says nothing (https://github.com/containers/podman/issues/22645).
    takesDeviceRequests: !isPodman,
    knowsItsLayers: !isPodman,
  };
}

export function isPodmanVersion({ Components }: EngineVersion): boolean {
  return (Components ?? []).some(({ Name }) => Name.startsWith('Podman'));
}

/** Why containers get no devices that they request of a driver; null: they do. */
export function deviceRefusal({ takesDeviceRequests }: EngineTraits): string | null {
  return takesDeviceRequests ? null : 'Podman hands no devices that are requested of a driver to containers.';
}

/**
 * A kernel that holds a slot and sees nothing of its device would be worse than none.
 * @throws AppError `unsupported-feature`
 */
export function refuseUnseenDevices(
  traits: EngineTraits,
  { deviceRequests }: Pick<DeviceContribution, 'deviceRequests'>,
): void {
  if (deviceRefusal(traits) === null || deviceRequests.length === 0) return;
  const drivers = [...new Set(deviceRequests.map(({ driver }) => driver))].join(', ');
  throw new AppError('unsupported-feature', `Podman hands no devices of ${drivers} to containers of this agent.`, {
    hint: 'Give the agent Docker, or sandboxed processes (backend = "process"), for these devices.',
  });
}
