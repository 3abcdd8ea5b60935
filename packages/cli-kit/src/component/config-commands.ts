import { type ConfigShape, checkConfig, configError, renderEffective, tomlValue } from '@backend.ai/runtime';
import { Command, type CommandClass } from 'clipanion';
import type { CliContext } from '../context.ts';
import { writeTable } from '../output.ts';
import type { ConfiguredComponent } from './component.ts';
import { ComponentCommand } from './component-command.ts';

/** `<component> config show` and `<component> config check`. */
export function configCommands<Shape extends ConfigShape>(
  component: ConfiguredComponent<Shape>,
): CommandClass<CliContext>[] {
  return [configShowCommand(component), configCheckCommand(component)];
}

/** `<component> config show`: what is in effect and where it came from. */
function configShowCommand<Shape extends ConfigShape>(component: ConfiguredComponent<Shape>): CommandClass<CliContext> {
  const { command } = component.configuration;
  return class ConfigShowCommand extends ComponentCommand<Shape> {
    static override paths = [[command, 'config', 'show']];
    static override usage = Command.Usage({
      category: component.title,
      description: `show every setting of the ${component.configuration.component} and where its value comes from`,
      details:
        'Secrets are masked. What is derived is not set anywhere: the program takes it from other settings or the machine.',
      examples: [['Look at it', `$0 ${command} config show`]],
    });
    protected override configured(): ConfiguredComponent<Shape> {
      return component;
    }

    async perform(): Promise<number> {
      const config = this.loadConfig();
      const settings = renderEffective(config, component.derived?.(config));
      if (this.json) {
        this.printJson({ configFile: config.file, configFound: config.fileFound, warnings: config.warnings, settings });
        return 0;
      }
      this.sayBanner(config);
      const rows = settings.map(({ key, value, origin }) => [key, value === null ? '–' : tomlValue(value), origin]);
      writeTable(this.context.stdout, ['setting', 'value', 'from'], rows);
      return 0;
    }
  };
}

/** `<component> config check`: exit code 0 when the component would start with it. */
function configCheckCommand<Shape extends ConfigShape>(
  component: ConfiguredComponent<Shape>,
): CommandClass<CliContext> {
  const { configuration } = component;
  const { command } = configuration;
  return class ConfigCheckCommand extends ComponentCommand<Shape> {
    static override paths = [[command, 'config', 'check']];
    static override usage = Command.Usage({
      category: component.title,
      description: `tell everything that is wrong with the configuration of the ${configuration.component}`,
      details: 'Exit code 1 when something is.',
      examples: [
        ['Check', `$0 ${command} config check`],
        ['Before it is installed', `$0 ${command} config check --config new.toml`],
      ],
    });
    protected override configured(): ConfiguredComponent<Shape> {
      return component;
    }

    async perform(): Promise<number> {
      const { file, fileFound, problems, warnings } = checkConfig(configuration, this.sources);
      this.warn(warnings);
      if (problems.length > 0) return this.fail(configError(configuration, file, problems));
      if (this.json) this.printJson({ configFile: file, configFound: fileFound, problems, warnings });
      this.say(fileFound ? `${file} is right.` : `${file} is not there; defaults, environment and flags are right.`);
      return 0;
    }
  };
}
