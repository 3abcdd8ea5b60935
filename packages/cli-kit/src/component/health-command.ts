import { type ConfigShape, checkDependencies, type DependencyHealth } from '@backend.ai/runtime';
import { Command, type CommandClass } from 'clipanion';
import type { CliContext } from '../context.ts';
import type { Component, ConfiguredComponent } from './component.ts';
import { ComponentCommand } from './component-command.ts';

const checkDeadlineMs = 3_000;

/** `<component> health`: exit code 0 when everything that the component needs works, else 1. */
export function healthCommand<Shape extends ConfigShape>(component: Component<Shape>): CommandClass<CliContext> {
  const { command } = component.configuration;
  return class HealthCommand extends ComponentCommand<Shape> {
    static override paths = [[command, 'health']];
    static override usage = Command.Usage({
      category: component.title,
      description: `check everything that the ${component.configuration.component} needs to work`,
      details: 'It need not run for that. Exit code 1 when something does not work.',
      examples: [
        ['Check', `$0 ${command} health`],
        ['For scripts', `$0 ${command} health --json`],
      ],
    });
    protected override configured(): ConfiguredComponent<Shape> {
      return component;
    }

    async perform(): Promise<number> {
      const config = this.loadConfig();
      this.sayBanner(config);
      const { dependencies, close } = await component.openDependencies(config, this.context);
      let report: DependencyHealth[];
      try {
        report = await checkDependencies(dependencies, { deadlineMs: checkDeadlineMs });
      } finally {
        await close();
      }
      const healthy = report.every((each) => each.healthy);
      if (this.json) {
        const { file: configFile, fileFound: configFound, warnings } = config;
        const { component: name } = component.configuration;
        this.printJson({
          component: name,
          version: component.version,
          configFile,
          configFound,
          warnings,
          healthy,
          dependencies: report,
        });
      }
      for (const line of linesOf(report)) this.say(line);
      return healthy ? 0 : 1;
    }
  };
}

function linesOf(report: readonly DependencyHealth[]): string[] {
  const width = Math.max(0, ...report.map(({ name }) => name.length));
  const lines = report.flatMap(({ name, healthy, latencyMs, detail, hint }) => [
    `  ${healthy ? '✓' : '✗'} ${name.padEnd(width)}  ${`${latencyMs.toFixed(1)} ms`.padStart(9)}  ${onOneLine(detail)}`.trimEnd(),
    ...(hint === null ? [] : [`      ${onOneLine(hint)}`]),
  ]);
  const failed = report.filter(({ healthy }) => !healthy);
  if (failed.length === 0) return [...lines, report.length === 1 ? 'It works.' : `All ${report.length} work.`];
  const names = failed.map(({ name }) => name).join(', ');
  return [...lines, `${failed.length} of ${report.length} ${failed.length === 1 ? 'does' : 'do'} not work: ${names}.`];
}

/** Servers write these texts: nothing in them may steer the terminal or look like another line. */
function onOneLine(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is replaced
  return text.replace(/[\u0000-\u001f\u007f-\u009f]+/g, ' ');
}
