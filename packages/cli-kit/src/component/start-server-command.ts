import { parseRequestId } from '@backend.ai/core';
import {
  type ConfigShape,
  type ConfigValues,
  endOnUncaught,
  type FlagValue,
  firstSignal,
  type LoggingSettings,
  openLog,
  runService,
} from '@backend.ai/runtime';
import { ensureRequestId, failureFields } from '@backend.ai/telemetry';
import { Command, type CommandClass, Option } from 'clipanion';
import type { CliContext } from '../context.ts';
import type { Component, ConfiguredComponent } from './component.ts';
import { ComponentCommand } from './component-command.ts';

/** `<component> start-server`: runs until SIGINT or SIGTERM, drains, and ends; a second signal ends it at once. */
export function startServerCommand<Shape extends ConfigShape>(component: Component<Shape>): CommandClass<CliContext> {
  const { configuration } = component;
  const { command, component: name } = configuration;
  return class StartServerCommand extends ComponentCommand<Shape> {
    static override paths = [[command, 'start-server']];
    static override usage = Command.Usage({
      category: component.title,
      description: `run the ${name} until it is told to end`,
      details: `
        Ctrl-C or SIGTERM lets running work end, a second one ends it at once. SIGHUP opens the log file anew. Records
        go to standard error, as text on a terminal and as JSON elsewhere, unless [logging] says otherwise.
      `,
      examples: [
        ['With configs and environment', `$0 ${command} start-server`],
        [
          'With another file and one setting overruled',
          `$0 ${command} start-server --config my.toml --set logging.format=json`,
        ],
      ],
    });

    logLevel = Option.String('--log-level', { description: 'Instead of logging.level: debug, info, warn or error' });
    protected override configured(): ConfiguredComponent<Shape> {
      return component;
    }

    protected override namedFlags(): FlagValue[] {
      return this.logLevel === undefined ? [] : [{ key: 'logging.level', text: this.logLevel, flag: '--log-level' }];
    }

    perform(): Promise<number> {
      return ensureRequestId(() => this.#run(), parseRequestId(this.context.requestId));
    }

    async #run(): Promise<number> {
      const signal = firstSignal(['SIGINT', 'SIGTERM']);
      const config = this.loadConfig();
      const { env, cwd, stderr } = this.context;
      const { logging } = config.values as ConfigValues<ConfigShape> & { readonly logging: LoggingSettings };
      const log = openLog(name, logging, (stderr as NodeJS.WriteStream).isTTY === true);
      const { logger } = log;
      endOnUncaught(logger);
      process.on('SIGHUP', log.reopen);
      this.sayBanner(config);
      for (const warning of config.warnings) logger.warn('configuration warning', { warning });
      try {
        return await runService({
          start: () => component.start(config, { logger, env, cwd }),
          signal,
          stopDeadlineMs: component.stopDeadlineMs(config),
          logger,
          onReady: ({ addresses }) => {
            if (this.json) this.printJson({ component: name, pid: process.pid, addresses });
            for (const [what, address] of Object.entries(addresses)) this.say(`${what}: ${address}`);
            this.say('Ready. Ctrl-C ends it.');
          },
          onStopping: (cause) => this.say(`Stopping (${cause}).`),
        });
      } catch (error) {
        logger.error('service failed', failureFields(error));
        throw error;
      } finally {
        process.off('SIGHUP', log.reopen);
        log.close();
      }
    }
  };
}
