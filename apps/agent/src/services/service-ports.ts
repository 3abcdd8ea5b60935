import type { KernelSpec, ServicePort } from '@backend.ai/contract';

/** Ports that programs of the user will listen on, each by its number. */
export function preopenServices({ preopenPorts = [] }: Pick<KernelSpec, 'preopenPorts'>): ServicePort[] {
  return preopenPorts.map((port) => ({ name: String(port), protocol: 'preopen', ports: [port] }));
}
