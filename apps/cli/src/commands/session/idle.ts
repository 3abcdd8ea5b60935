import { writeTable } from '@backend.ai/cli-kit';
import type { IdleCheckView } from '@backend.ai/client';
import { Command } from 'clipanion';
import { SessionCommand } from '../../session-command.ts';

export class SessionIdle extends SessionCommand {
  static override paths = [['session', 'idle']];
  static override usage = Command.Usage({
    category: 'Sessions',
    description: 'Show what the idle checkers would say of a session now, and how long it has left',
    details: 'Asking changes nothing. `--json` shows all that a verdict was made of.',
    examples: [['How long it may still stay unused', '$0 session idle my-session']],
  });

  override async perform(): Promise<undefined> {
    const idle = await (await this.open()).idle();
    if (this.json) return void this.printJson({ idle });
    writeTable(
      this.context.stdout,
      ['checker', 'verdict', 'left', 'why'],
      idle.checks.map(({ checker, verdict, remainingMs, remainingKind, explanation }) => [
        checker,
        verdict,
        left(remainingMs, remainingKind),
        explanation,
      ]),
    );
    for (const check of idle.checks) for (const line of figures(check)) this.say(line);
  }
}

/** What the verdict on utilisation was made of. */
function figures({ checker, evidence }: IdleCheckView): string[] {
  const { metrics, windowMs, coveredMs } = evidence as Partial<UtilizationEvidence>;
  if (checker !== 'utilization' || metrics === undefined) return [];
  const observed = `  observed: ${seconds(coveredMs)} of ${seconds(windowMs)}`;
  const compared = Object.entries(metrics).map(([name, { average, threshold, isBelow }]) => {
    const unit = /_(util|mem)$|^mem$/.test(name) ? ' %' : ' bytes/s';
    const used = average === null ? 'not measured' : `${average.toFixed(1)}${unit} on average`;
    return `  ${name}: ${used}, threshold ${threshold}${unit}${isBelow ? ' (below)' : ''}`;
  });
  return ['utilization:', ...compared, observed];
}

interface UtilizationEvidence {
  readonly windowMs: number;
  readonly coveredMs: number;
  readonly metrics: Readonly<Record<string, { average: number | null; threshold: number; isBelow: boolean | null }>>;
}

function seconds(ms = 0): string {
  return `${Math.floor(ms / 1000)} s`;
}

function left(remainingMs: number | null, kind: string): string {
  if (remainingMs === null) return '-';
  if (remainingMs <= 0) return 'over';
  const seconds = Math.round(remainingMs / 1000);
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor((seconds % 3600) / 60)];
  const text = [hours && `${hours}h`, minutes && `${minutes}m`, `${seconds % 60}s`].filter(Boolean).join(' ');
  return kind === 'grace_period' ? `${text} until it is judged` : text;
}
