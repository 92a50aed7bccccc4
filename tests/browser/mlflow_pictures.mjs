// Walks through MLflow's pages of a mirrored study in a real browser and takes the pictures of docs/mlflow.md.
//
// Usage, from any folder in which `npm install playwright-core` was run (not the repository):
//
//     mlflow ui --backend-store-uri sqlite:///outputs/mlflow.db --port 5000 &
//     node <repository>/tests/browser/mlflow_pictures.mjs http://127.0.0.1:5000 augment_pairs <repository>/docs/images
//
// Every step waits for what a user would look for and fails where it does not appear. CHROMIUM names another
// browser than /usr/bin/chromium.

import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { createRequire } from 'node:module';

const { chromium } = createRequire(path.join(process.cwd(), 'here.js'))('playwright-core');
const [base, study, folder] = process.argv.slice(2);
if (!folder) throw new Error('usage: node mlflow_pictures.mjs BASE_URL STUDY PICTURE_FOLDER');

const api = `${base}/ajax-api/2.0/mlflow`;
const answer = await fetch(`${api}/experiments/get-by-name?experiment_name=${encodeURIComponent(study)}`);
const experiment = (await answer.json()).experiment;
const view = experiment.tags.find((tag) => tag.key === 'mlflow.sharedViewState.study');
const metric = JSON.parse(view.value).name.replace('cells by ', '');
const page_of = (rest) => `${base}/#/experiments/${experiment.experiment_id}/runs${rest}`;

const profile = fs.mkdtempSync(path.join(os.tmpdir(), 'chromium-'));
const browser = await chromium.launchPersistentContext(profile, {
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  headless: true,
  viewport: { width: 1280, height: 800 },
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
    '--disable-background-networking', '--disable-component-update', '--disable-sync'],
});

try {
  const page = await browser.newPage();
  page.setDefaultTimeout(60_000);
  const picture = async (name) => {
    await page.waitForTimeout(2_000); // charts and tables are still moving when their elements appear
    await page.screenshot({ path: path.join(folder, `mlflow-${name}.png`) });
  };

  // The first page that a user opens: the report above its runs.
  await page.goto(page_of(''));
  const assistant = page.locator('[data-component-id="mlflow.assistant.chat_panel.close"]');
  await assistant.click({ timeout: 15_000 }).catch(() => {}); // opens by itself in a new browser profile
  await page.getByText('Model training').click();
  await page.getByText('report: ').waitFor();

  // The saved view: every cell with its axes and its metric, best first.
  await page.getByTestId('saved-views-trigger').click();
  await page.getByText(`cells by ${metric}`).click();
  await page.locator('.ag-row[row-index="7"]').first().waitFor();
  await page.mouse.move(0, 0);
  await picture('table');

  // Learning curves of the best ten.
  await page.goto(page_of('?viewStateShareKey=study&compareRunsMode=CHART'));
  await page.getByText('training/loss').first().waitFor();
  await page.getByText('training', { exact: true }).scrollIntoViewIfNeeded();
  await picture('curves');

  // Eight cells compared: axes as params, the study's metric.
  await page.goto(page_of('?viewStateShareKey=study&compareRunsMode=TABLE'));
  await page.locator('.ag-row[row-index="7"]').first().waitFor();
  for (let row = 0; row < 8; row += 1) {
    await page.locator(`.ag-row[row-index="${row}"] .ag-checkbox-input`).click({ force: true });
  }
  await page.getByTestId('runs-compare-button').click();
  await page.getByText('Comparing 8 Runs').waitFor();
  await page.getByText('Clear All').click();
  for (const [place, names] of [[0, axes()], [1, [metric]]]) {
    for (const name of names) {
      const box = page.locator('input[role="combobox"]').nth(place);
      await box.click();
      await box.fill(name);
      await page.locator(`.du-bois-light-select-item-option[title="${name}"]`).first().click();
    }
  }
  await page.keyboard.press('Escape');
  await page.getByText('Visualizations').click();
  await page.getByText('Visualizations').click(); // closes the list and draws the plot anew
  await picture('compare');

  // The heatmap among the report's artifacts.
  await page.goto(page_of('?orderByKey=attributes.start_time&orderByAsc=false'));
  await page.getByText('report: ').first().click();
  await page.getByText('Artifacts', { exact: true }).click();
  await page.getByText('figure.png').first().click();
  await page.locator('img[src*="figure.png"], img[src^="blob:"], img[src^="data:"]').first().waitFor();
  await picture('heatmap');
} finally {
  await browser.close();
  fs.rmSync(profile, { recursive: true, force: true });
}

function axes() {
  const packed = JSON.parse(view.value).state.replace('deflate;', '');
  const state = JSON.parse(createRequire(import.meta.url)('node:zlib').inflateSync(Buffer.from(packed, 'base64')));
  return state.selectedColumns
    .filter((column) => column.startsWith('params.') && !column.includes('`seed`'))
    .map((column) => column.split('`')[1]);
}
