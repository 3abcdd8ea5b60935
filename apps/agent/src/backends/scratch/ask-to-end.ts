import { type Clock, delay } from '@backend.ai/core';
import { ignores, readCommandLine, signalProcess } from '../../resources/processes.ts';

export interface Asking {
  /** Host ids of the living processes of the kernel. */
  readonly pids: () => readonly number[];
  readonly interruptRunner: () => Promise<void>;
  readonly isOver: () => boolean;
  readonly clock: Clock;
}

/** Programs that were asked to end have this long. */
const graceMs = 2_000;

/** Interrupts the runner's own work and sends SIGTERM to what it started; waits for those who listen to that. */
export async function askToEnd({ pids, interruptRunner, isOver, clock }: Asking): Promise<void> {
  const until = clock.monotonic() + graceMs;
  const asked = pids().filter((pid) => !isMachinery(pid));
  if (asked.length === 0) return;
  await interruptRunner();
  for (const pid of asked) signalProcess(pid, 'SIGTERM');
  while (clock.monotonic() < until && !isOver()) {
    const left = new Set(pids());
    if (!asked.some((pid) => left.has(pid) && !ignores(pid, 'SIGTERM'))) return;
    await delay(clock, 5);
  }
}

/** Sandbox, runner and its interpreter: they end last. One that only looks so is not waited for, nothing worse. */
function isMachinery(pid: number): boolean {
  const command = readCommandLine(pid);
  return /bwrap|kernel-(monitor|setup|init)|(docker|podman)-init|catatonit|\/(runner|node_user)\.(py|cjs)/.test(
    command,
  );
}
