export { type NaivePlan, naiveSchedule } from './naive-schedule.ts';
