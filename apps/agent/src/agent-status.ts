import type {
  Image,
  IsolationReport,
  KernelMeasurement,
  KernelReport,
  Metrics,
  WarmSlotReport,
} from '@backend.ai/contract';
import { type AppError, slotsToTexts } from '@backend.ai/core';
import type { Accelerators, PluginStatus } from './accelerators/accelerators.ts';
import type { Backend } from './backends/backend.ts';
import type { BackendKind } from './backends/choose-backend.ts';
import type { AgentState } from './kernels/agent-state.ts';
import type { KernelMeter } from './kernels/kernel-meter.ts';
import type { Outbox } from './kernels/outbox.ts';
import type { KernelSupervisor } from './kernels/supervisor.ts';
import type { AllocationLedger } from './resources/allocation-ledger.ts';
import type { LinkStatus, ManagerLink } from './rpc/manager-link.ts';
import type { MachineMeter } from './statistics/machine-meter.ts';

/** Who an agent is, as long as it runs. */
interface AgentFacts {
  readonly agentId: string;
  readonly bootId: string;
  readonly version: string;
  readonly startedAt: string;
  /** Why an agent that chose processes by itself does not use the engine that is there, and what to do; null: it is not so. */
  readonly unusedEngine: string | null;
}

/** What operators see: `ag status`, `ag list-slots`. */
export interface AgentStatusView extends AgentFacts {
  readonly backend: BackendKind;
  /** Why no kernels are started now; null: they are. */
  readonly outage: string | null;
  readonly registration: LinkStatus['state'];
  /** The line to the manager in more detail. */
  readonly link: LinkStatus;
  readonly isolation: IsolationReport;
  readonly images: readonly Image[];
  readonly capacity: Record<string, string>;
  readonly used: Record<string, string>;
  /** What is held of each device, by slot; a device of which nothing is held is left out. */
  readonly heldDevices: Record<string, Record<string, string>>;
  readonly accelerators: PluginStatus[];
  readonly kernels: KernelReport[];
  /** Kernels that were started ahead, for sessions to come. */
  readonly warmSlots: WarmSlotReport[];
  /** What those that run use. */
  readonly measurements: KernelMeasurement[];
  /** What the whole machine uses. */
  readonly machine: Metrics;
  /** Events that the manager has not acknowledged yet. */
  readonly outboxDepth: number;
  readonly lastEventSeq: number;
  readonly epoch: number;
  readonly address: string;
  readonly dataAddress: string;
}

/** What the status of an agent that has started is read from. */
export interface StatusSources {
  readonly link: Pick<ManagerLink, 'status'>;
  readonly backend: Backend;
  readonly ledger: AllocationLedger;
  readonly accelerators: Accelerators;
  readonly supervisor: KernelSupervisor;
  readonly meters: { readonly kernels: KernelMeter; readonly machine: MachineMeter };
  readonly outbox: Outbox;
  readonly state: AgentState;
  readonly address: string;
  readonly dataAddress: string;
}

export function agentStatus(facts: AgentFacts, sources: StatusSources): AgentStatusView {
  const { link, backend, ledger, accelerators, supervisor, meters, outbox, state, address, dataAddress } = sources;
  const { isolation, images } = backend.capabilities;
  return {
    ...facts,
    backend: backend.kind,
    outage: supervisor.outage ? withCause(supervisor.outage) : null,
    registration: link.status.state,
    link: link.status,
    isolation,
    images,
    capacity: slotsToTexts(ledger.capacity),
    used: slotsToTexts(ledger.used),
    heldDevices: Object.fromEntries(
      [...ledger.heldDevices].map(([slot, devices]) => [slot, slotsToTexts(Object.fromEntries(devices))]),
    ),
    accelerators: accelerators.status(),
    kernels: supervisor.reports(),
    warmSlots: supervisor.warmSlots.reports(),
    measurements: meters.kernels.measurements(),
    machine: meters.machine.metrics(),
    outboxDepth: outbox.pending.length,
    lastEventSeq: outbox.lastSeq,
    epoch: state.epoch,
    address,
    dataAddress,
  };
}

/** For operators. */
function withCause({ message, cause }: AppError): string {
  return cause instanceof Error ? `${message} (${cause.message})` : message;
}
